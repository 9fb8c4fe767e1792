"""Finds the mutants of CUDA sources, and writes a source that contains all of them.

A mutant is a few insertions (see mutant.h) that keep every line where it is. One that is not chosen
leaves the program as it was, so a source is compiled once for all of its mutants.
"""

import re

# Deleted statements: kind -> functions.
DELETED = {
    "barrier deleted": ["__syncthreads", "__syncwarp", "gpu::named_bar_sync", "gpu::cluster_sync", "gpu::grid_sync"],
    "wait deleted": ["gpu::cp_async_wait", "gpu::mbar_wait", "gpu::bulk_wait", "gpu::wgmma_wait",
                     "gpu::wait_acquire_ge"],
    "fence deleted": ["__threadfence", "gpu::fence_proxy_async", "gpu::fence_mbar_init", "gpu::wgmma_fence"],
    "commit deleted": ["gpu::cp_async_commit", "gpu::wgmma_commit", "gpu::bulk_commit"],
    "arrival deleted": ["gpu::mbar_arrive", "gpu::mbar_arrive_tx", "gpu::named_bar_arrive", "gpu::red_release_add"],
}
# Names that mean the same of two directions.
PAIRS = [("h", "w"), ("p", "q"), ("r", "s"), ("height", "width"), ("rows", "columns"), ("rows", "cols"),
         ("row", "column"), ("top", "left"), ("source_h", "source_w"), ("out_h", "out_w"), ("tiles_h", "tiles_w"),
         ("taps_h", "taps_w"), ("taps_r", "taps_s"), ("source_rows", "source_columns"), ("row_phase", "column_phase"),
         ("row_tap", "column_tap"), ("out_top", "out_left"), ("whole_p", "whole_q"), ("i_step", "j_step")]
OPENING, CLOSING = "([{", ")]}"


class Mutant:
    """edits: (position, end, text); end > position replaces, else the text is inserted. Of several
    insertions at one place the one of the widest range stands first: see apply()."""

    def __init__(self, file, kind, position, edits):
        self.file, self.kind, self.position, self.edits = file, kind, position, edits
        self.line = 0       # number
        self.text = ""      # of the line
        self.ordinal = 1    # among the mutants of this kind on lines of this text
        self.id = 0

    def key(self):
        """Names a mutant even when lines move."""
        nth = f" #{self.ordinal}" if self.ordinal > 1 else ""
        return f"{self.file} ~> {self.kind}{nth} ~> {self.text}"


def blank(text, start, end):
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def closing(text, at):
    """Where the bracket that opens at `at` closes."""
    depth = 0
    for i in range(at, len(text)):
        if text[i] in OPENING:
            depth += 1
        elif text[i] in CLOSING:
            depth -= 1
            if depth == 0:
                return i
    return len(text) - 1


def angle_end(text, at):
    depth = 0
    while at < len(text):
        if text[at] in OPENING:
            at = closing(text, at)
        depth += {"<": 1, ">": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1
    return len(text) - 1


def visible(text):
    """The text with everything blank that cannot change while a program runs: comments, strings,
    directives, template parameters, constants."""
    out = text
    for pattern in (r"//[^\n]*", r"/\*.*?\*/", r'"(?:\\.|[^"\\\n])*"', r"(?m)^\s*#(?:[^\n]*\\\n)*[^\n]*"):
        for match in re.finditer(pattern, out, re.S if "/\\*" in pattern else 0):
            out = blank(out, match.start(), match.end())
    for match in re.finditer(r"\btemplate\s*<", out):
        out = blank(out, match.start(), angle_end(out, match.end() - 1) + 1)
    for match in re.finditer(r"\b(?:static_assert|__launch_bounds__|alignas|if constexpr|requires)\s*\(", out):
        out = blank(out, match.start() if "constexpr" not in match.group() else match.end(),
                    closing(out, match.end() - 1) + 1)
    for match in re.finditer(r"\b(?:using|template|friend|typedef)\b[^;{]*;", out):
        out = blank(out, match.start(), match.end())
    for match in re.finditer(r"\benum\b[^;{]*\{", out):
        out = blank(out, match.start(), closing(out, match.end() - 1) + 1)
    # A constant up to its end, but not a function.
    for match in re.finditer(r"\bconstexpr\b(?=[^;({=]*[={])", out):
        end = match.end()
        while end < len(out) and out[end] != ";":
            end = closing(out, end) + 1 if out[end] in OPENING else end + 1
        out = blank(out, match.start(), end)
    for match in re.finditer(r"\([&*]+\w+\)(?:\[[^\]]*\])+", out):  # a reference to an array
        out = blank(out, match.start(), match.end())
    return out


def operand_start(code, at):
    """The beginning of the operand of && or || or ?: that ends before `at`."""
    i = at - 1
    while i >= 0:
        if code[i] in CLOSING:
            depth = 0
            while i >= 0:
                depth += (code[i] in CLOSING) - (code[i] in OPENING)
                if depth == 0:
                    break
                i -= 1
        elif code[i] in "([{,;?:" and code[i - 1:i + 1] != "::" and code[i:i + 2] != "::":
            break
        elif code[i - 1:i + 1] in ("&&", "||") and code[i + 1] == " ":
            break
        elif code[i] == "=" and code[i - 1] not in "=<>!" and code[i + 1] != "=":
            break
        elif re.match(r"return\b", code[max(i - 5, 0):i + 2]) and i >= 5 and not code[i - 6].isalnum():
            break
        i -= 1
    return skip_blank(code, i + 1)


def operand_end(code, at):
    """The end of the operand that begins at `at`."""
    i = at
    while i < len(code):
        if code[i] in OPENING:
            i = closing(code, i)
        elif code[i] in ")]},;?" or code[i:i + 4] in (" && ", " || ", "&& ", "|| ", " && \n") or code[i:i + 3] in ("&&\n", "||\n"):
            break
        elif code[i] == ":" and code[i - 1] == " ":
            break
        i += 1
    while code[i - 1].isspace():
        i -= 1
    return i


def skip_blank(code, i):
    while i < len(code) and code[i].isspace():
        i += 1
    return i


class Finder:
    def __init__(self, file, text):
        self.file, self.text, self.code = file, text, visible(text)
        self.found = []
        self.rounds = self.fixed_loops()

    def add(self, kind, position, *edits):
        self.found.append(Mutant(self.file, kind, position, list(edits)))

    def prefix(self, kind, position, macro):
        self.add(kind, position, (position, position, f"{macro}(%d) ", "prefix"))

    def wrap(self, kind, start, end, before, after):
        self.add(kind, start, (start, end, before, "open"), (start, end, after, "close"))

    def deletions(self):
        for kind, names in DELETED.items():
            for name in names:
                for match in re.finditer(rf"(?<![\w:]){re.escape(name)}(?:<[^;()]*>)?\(", self.code):
                    before = self.code[:match.start()].rstrip()
                    if before.endswith((";", "{", "}", ")", "else")):
                        self.add(kind, match.start(), (match.start(), match.start(), "MUTANT(%d) ? void() : ", "prefix"))

    def comparisons(self):
        for match in re.finditer(r"(?<=[\w)\]]) (<=|>=|<|>)(?: |\n\s*)(?=[\w(:-])", self.code):
            loop = self.loop_of(match.start())
            fixed = loop and self.constant(match.end(), loop)
            if not loop and self.compiled_in(match.start(), match.end()):
                continue
            up = match.group(1) in ("<", ">=")
            if not fixed:
                self.add("bound off by one", match.end(), (match.end(), match.end(),
                                                           f"MUTANT_{'UP' if up else 'DOWN'}(%d) + ", "prefix"))
            if loop and up:
                self.add("last round skipped", match.end(), (match.end(), match.end(), "MUTANT_DOWN(%d) + ", "prefix"))

    def loop_of(self, at):
        """The end of the condition, if `at` stands in that of a for loop."""
        start = max(self.code.rfind(";", 0, at), self.code.rfind("{", 0, at))
        head = self.code.rfind("for (", max(0, start - 300), at)
        if head < 0 or self.code[head:at].count(";") != 1 or closing(self.code, head + 4) < at:
            return 0
        return self.code.index(";", at)

    def constant(self, start, end):
        """Whether a bound is known to the compiler: leaving an array's bounds is then no mutant but
        undefined behaviour that it may use."""
        names = re.findall(r"[A-Za-z_]\w*", self.code[start:end])
        return all(re.match(r"k[A-Z]|[A-Z]\w*$|sizeof|Index$|int$|std|size", name) for name in names)

    def compiled_in(self, at, right):
        """Whether both sides of a comparison are numbers that the compiler knows."""
        end = operand_end(self.code, right)
        return self.constant(operand_start(self.code, at), min(end, right + 200))

    def indices(self):
        for match in re.finditer(r"(?<=[\w)\]])\[", self.code):
            inner = self.code[match.end():closing(self.code, match.start())]
            if not inner.strip() or self.declares(match.start(), inner) or self.unrolled(match.end(), inner):
                continue
            self.add("index shifted", match.end(), (match.end(), match.end(), "MUTANT_UP(%d) + ", "prefix"))

    def fixed_loops(self):
        """(begin, end, variable) of the loops whose rounds the compiler knows."""
        loops = []
        for match in re.finditer(r"for \(int (\w+) = [^;]*; \1 [<>]=? ([^;]*);", self.code):
            if self.constant(match.start(2), match.end(2)):
                head = closing(self.code, match.start() + 4)
                loops.append((head, self.statement_end(head + 1), match.group(1)))
        return loops

    def statement_end(self, at):
        at = skip_blank(self.code, at)
        head = re.match(r"(?:for|if|if constexpr) \(", self.code[at:at + 20])
        if head:
            return self.statement_end(closing(self.code, at + head.end() - 1) + 1)
        while at < len(self.code) and self.code[at] != ";":
            if self.code[at] in OPENING:
                end = closing(self.code, at)
                if self.code[at] == "{" and self.code[at - 1] != "(":
                    return end
                at = end
            at += 1
        return at

    def unrolled(self, at, inner):
        """Whether an index is made of rounds of such loops and constants: an array in registers,
        behind whose end is nothing."""
        variables = {variable for begin, end, variable in self.rounds if begin < at < end}
        return all(name in variables or re.match(r"k[A-Z]|[A-Z]", name) for name in re.findall(r"[A-Za-z_]\w*", inner))

    def declares(self, at, inner):
        before = re.sub(r"(\[[^\[\]]*\])+$", "", self.code[:at].rsplit("\n", 1)[-1])
        name = re.search(r"([\w>*&]+)(\s+)\w+$", before)
        if name and name.group(1) not in ("return", "else", "case"):
            return not re.search(r"\s[*&]$", before[:name.end(1)]) and not name.group(1) in ("*", "&", ">", "&&")
        constant = all(re.match(r"k[A-Z]", n) or n[0].isupper() for n in re.findall(r"[A-Za-z_]\w*", inner))
        return bool(re.search(r",\s*\w+$", before)) and constant and not inner.strip().isdigit()

    def signs(self):
        for match in re.finditer(r"(?<=[\w)\]]) \+(?: |\n\s*)(?=[A-Za-z_(])", self.code):
            self.add("sign of an offset", match.end(), (match.end(), match.end(), "MUTANT_NEG(%d) * ", "prefix"))

    def steps(self):
        for match in re.finditer(r"\w \+= (?=[\w(][^;()]*\))", self.code):
            if self.code.rfind("for (", 0, match.start()) > self.code.rfind("{", 0, match.start()):
                self.add("every second round skipped", match.end(),
                         (match.end(), match.end(), "MUTANT_TWICE(%d) * ", "prefix"))

    def tiles(self):
        for match in re.finditer(r"\bgpu::cdiv(?=\()", self.code):
            self.add("last partial tile dropped", match.start(), (match.start(), match.end(), "MUTANT_CDIV(%d)", "replace"))
        for match in re.finditer(r"\bgpu::grid_for\(", self.code):
            self.add("last block dropped", match.start(),
                     (match.start(), match.start(), "MUTANT_FEWER(%d) * ", "prefix"))

    def swaps(self):
        names = {}
        for a, b in PAIRS:
            for name, other in ((a, b), (b, a)):
                if name not in names or re.search(rf"[.,]?\b{other}\b", self.code):
                    names[name] = other
        words = "|".join(sorted(names, key=len, reverse=True))
        for match in re.finditer(rf"\b(\w+(?:\.|->))?({words})\b(\(\))?(?!\.|\[|->| *(?:=[^=]|\+=|-=|\+\+|--|\(|\{{))", self.code):
            owner, name, call = match.group(1) or "", match.group(2), match.group(3) or ""
            before = self.code[:match.start()]
            if re.search(r"(?:[.&]|->|::|--|\+\+|[\w>*&] +)$", before) and not re.search(r"(?:return|\s[-+*/%<>=?:&|]{1,2}) +$", before) \
                    or re.search(r"[A-Za-z]> +$", before):
                continue
            other = names[name]
            if owner and not re.search(rf"(?:\.|->){other}\b", self.code):
                continue
            if not owner and not re.search(rf"\b{other}\b", self.code[self.block(match.start()):match.start()]) \
                    and not self.in_struct_with(other, match.start()):
                continue
            # One of the names that a statement declares: int image, row, column;
            begin = max(self.code.rfind(c, 0, match.start()) for c in ";{}(")
            if re.fullmatch(r"\s*(?:const |static )*(?:int|Index|I|float|bool|unsigned|auto|T)\s+(?:\w+,\s*)*",
                            self.code[begin + 1:match.start()]):
                continue
            # A single letter alone is a member of an index struct, or something else.
            if not owner and (call or len(name) == 1 and not self.in_struct_with(name, match.start())):
                continue
            self.wrap("directions swapped", match.start(), match.end(),
                      f"(MUTANT(%d) ? {owner}{names[name]}{call} : ", ")")

    def block(self, at):
        """Where the function or struct around `at` begins."""
        return max(self.code.rfind("\n}", 0, at), 0)

    def in_struct_with(self, name, at):
        """Whether `at` is in a struct that has a member of this name."""
        for match in re.finditer(r"\bstruct [^;{]*\{", self.code):
            end = closing(self.code, match.end() - 1)
            if match.start() < at < end:
                return re.search(rf"\n  (?:int|Index|I) (?:\w+, )*{name}\b", self.code[match.start():end]) is not None
        return False

    def conditions(self):
        for match in re.finditer(r"\bif \(", self.code):
            start, end = match.end(), closing(self.code, match.end() - 1)
            if self.code[start:end].strip() == "" or re.search(r"[^=<>!]=[^=]", self.code[start:end]):
                start = self.code.find(";", start, end) + 1  # if (const Index i = ...; i < n)
                if start == 0:
                    continue
                start = skip_blank(self.code, start)
            leaves = re.match(r"\)\s*(?:return|continue|break)\b", self.code[end:end + 60])
            self.wrap("early exit removed" if leaves else "branch skipped", start, end, "!MUTANT(%d) && (", ")")
            if not leaves:
                self.wrap("check removed", start, end, "MUTANT(%d) || (", ")")
        for match in re.finditer(r" (&&|\|\|)(?= |\n)", self.code):
            right = skip_blank(self.code, match.end())
            spans = [(right, operand_end(self.code, right))]
            left = operand_start(self.code, match.start())
            if not self.code[:left].rstrip().endswith(match.group(1)):
                spans.insert(0, (left, match.start()))
            for start, end in spans:
                if self.constant(start, end):
                    continue
                if match.group(1) == "&&":
                    self.wrap("check removed", start, end, "(MUTANT(%d) || (", "))")
                else:
                    self.wrap("alternative removed", start, end, "(!MUTANT(%d) && (", "))")
        for match in re.finditer(r" \?(?= |\n)", self.code):
            start = operand_start(self.code, match.start())
            # Several operands: the whole condition.
            while self.code[:start].rstrip().endswith(("&&", "||")):
                start = operand_start(self.code, len(self.code[:start].rstrip()) - 2)
            if not self.constant(start, match.start()):
                self.wrap("check removed", start, match.start(), "(MUTANT(%d) || (", "))")

    def all(self):
        for part in (self.deletions, self.comparisons, self.indices, self.signs, self.steps, self.tiles, self.swaps,
                     self.conditions):
            part()
        self.found.sort(key=lambda m: (m.position, m.kind))
        lines, seen = self.text.splitlines(), {}
        for mutant in self.found:
            mutant.line = self.text.count("\n", 0, mutant.position) + 1
            mutant.text = re.sub(r"\s*//.*", "", lines[mutant.line - 1]).strip()
            place = (mutant.kind, mutant.text)
            mutant.ordinal = seen[place] = seen.get(place, 0) + 1
        return self.found


def find(file, text):
    return Finder(file, text).all()


def apply(text, mutants):
    """The text with all mutants in it; their ids must be set."""
    edits = []
    for mutant in mutants:
        for start, end, insert, role in mutant.edits:
            insert = insert.replace("%d", str(mutant.id))
            if role == "close":
                edits.append((end, 0, -start, -mutant.id, 0, insert))    # the innermost first
            elif role == "prefix":
                edits.append((start, 1, 0, mutant.id, 0, insert))        # before the operand's brackets
            elif role == "open":
                edits.append((start, 2, -end, mutant.id, 0, insert))     # the outermost first
            else:
                edits.append((start, 3, 0, mutant.id, end - start, insert))
    edits.sort()
    out, done = [], 0
    for position, _, _, _, length, insert in edits:
        out += [text[done:position], insert]
        done = position + length
    return "".join(out) + text[done:]
