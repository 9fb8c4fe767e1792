#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace subpix::train {

/// Structure checks of picture files from untrusted sources, before a decoder sees them. Decoders
/// in general, and stb_image in particular, fill what is missing with zeros and report success;
/// here a file must hold all the data that its header announces. The answer is empty for a sound
/// file, else a clause that goes on from "cannot read FILE: ", such as "it is cut short ...".
using FileBytes = std::span<const std::uint8_t>;

/// Chunk lengths, order and the checksums of the chunks that matter.
std::string png_problem(FileBytes file);

/// Announced size against present bytes.
std::string bmp_problem(FileBytes file);

struct JpegReport {
  std::string problem;
  int orientation = 1;  ///< Exif's 1 to 8; 1 is upright
};

/// Follows every Huffman-coded scan, sequential or progressive, to its last block and demands that
/// restart markers, all components, all announced refinements and the end marker are there.
/// (ITU-T T.81; names of the variables as there.)
JpegReport check_jpeg(FileBytes file);

/// The same up to the first scan, for a (possibly incomplete) file of which only the head is of
/// interest.
JpegReport check_jpeg_head(FileBytes file);

}  // namespace subpix::train
