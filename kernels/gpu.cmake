# Decides about the cuda backend, the simulator and cuDNN: SUBPIX_HAVE_CUDA, SUBPIX_HAVE_SIM, SUBPIX_HAVE_CUDNN.

set(SUBPIX_CUDA AUTO CACHE STRING "CUDA backend: AUTO, ON or OFF")
set_property(CACHE SUBPIX_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SUBPIX_SIM AUTO CACHE STRING "CUDA kernels on the CPU, for tests and --backend sim: AUTO, ON or OFF")
set_property(CACHE SUBPIX_SIM PROPERTY STRINGS AUTO ON OFF)

set(SUBPIX_CUDNN AUTO CACHE STRING "cuDNN backend, on top of CUDA: AUTO, ON or OFF")
set_property(CACHE SUBPIX_CUDNN PROPERTY STRINGS AUTO ON OFF)
set(CUDNN_ROOT "" CACHE PATH "folder that holds cuDNN's include and lib, where it is not beside the toolkit")

set(SUBPIX_HAVE_SIM OFF)
if(NOT SUBPIX_SIM STREQUAL "OFF")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(SUBPIX_HAVE_SIM ON)
  elseif(SUBPIX_SIM STREQUAL "ON")
    message(FATAL_ERROR "SUBPIX_SIM=ON needs g++ on x86-64; configure with -DSUBPIX_SIM=OFF")
  endif()
endif()

set(SUBPIX_HAVE_CUDA OFF)
if(NOT SUBPIX_CUDA STREQUAL "OFF" AND NOT SUBPIX_SANITIZE)
  set(architectures_given ${CMAKE_CUDA_ARCHITECTURES})
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT architectures_given)
      set(CMAKE_CUDA_ARCHITECTURES 80 90a CACHE STRING "GPU architectures" FORCE)
    endif()
    enable_language(CUDA)
    set(CMAKE_CUDA_FLAGS_RELEASE ${CMAKE_CXX_FLAGS_RELEASE})   # asserts of the host's part stay on here too
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)   # CMake before 3.26 does not know that nvcc has C++20
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
      set(problem "the CUDA toolkit ${CMAKE_CUDA_COMPILER_VERSION} is too old: 12.4 or later is needed")
    else()
      find_package(CUDAToolkit REQUIRED)
      set(SUBPIX_HAVE_CUDA ON)
    endif()
  else()
    set(problem "no CUDA toolkit found (nvcc in PATH, or CUDACXX)")
  endif()
  if(NOT SUBPIX_HAVE_CUDA AND SUBPIX_CUDA STREQUAL "ON")
    message(FATAL_ERROR "SUBPIX_CUDA=ON, but ${problem}; configure with -DSUBPIX_CUDA=OFF")
  elseif(NOT SUBPIX_HAVE_CUDA)
    message(STATUS "${problem}: building without the cuda backend")
  endif()
endif()

# The library is opened at run time; only its headers and its place are needed here. It must know devices by their
# properties, which plans are made from where there is no device.
set(SUBPIX_HAVE_CUDNN OFF)
if(NOT SUBPIX_CUDNN STREQUAL "OFF")
  set(problem "")
  if(NOT SUBPIX_HAVE_CUDA)
    set(problem "the cuda backend, which it stands on, is not built")
  else()
    find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${CUDNN_ROOT} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
    find_file(CUDNN_LIBRARY NAMES libcudnn.so.9 HINTS ${CUDNN_ROOT} ${CUDAToolkit_LIBRARY_DIR}
      PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib64 PATH_SUFFIXES lib lib64)
    if(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
      set(problem "cuDNN 9 was not found (cudnn_graph.h and libcudnn.so.9; -DCUDNN_ROOT=... names its folder)")
    else()
      file(STRINGS ${CUDNN_INCLUDE_DIR}/cudnn_graph.h known REGEX "CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR")
      if(NOT known)
        set(problem "the cuDNN in ${CUDNN_INCLUDE_DIR} is too old: it has no device properties")
      endif()
    endif()
  endif()
  if(NOT problem)
    set(SUBPIX_HAVE_CUDNN ON)
  elseif(SUBPIX_CUDNN STREQUAL "ON")
    message(FATAL_ERROR "SUBPIX_CUDNN=ON, but ${problem}; configure with -DSUBPIX_CUDNN=OFF")
  else()
    message(STATUS "${problem}: building without the cudnn backend")
  endif()
endif()

# For tools/gpu_check.sh, which reads the cache.
set(SUBPIX_CUDNN_BUILT ${SUBPIX_HAVE_CUDNN} CACHE INTERNAL "whether the cudnn backend is built")

# subpix_cuda_kernels(name a.cu b.cu ...): the sources compiled by nvcc, see kernels/cuda/nvcc.sh. Device code stays
# uncompressed: tests/cuda reads it.
function(subpix_cuda_kernels name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC subpix_kernels_api CUDA::cudart_static)
  target_compile_options(${name} PRIVATE --no-compress -Werror all-warnings -Xptxas -v,--warning-as-error)
  set_target_properties(${name} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON
    RULE_LAUNCH_COMPILE ${PROJECT_SOURCE_DIR}/kernels/cuda/nvcc.sh)
endfunction()

# The flavours, see docs/simulator.md. `check` is never linked with -fsanitize=thread: the callbacks that
# g++ inserts are the simulator's own. Without statement frontiers gdb can break on every line; in DWARF 5
# addr2line takes a generated file for the kernel source it includes. A frame larger than the guard page below a
# thread's stack must touch every page on its way (-fstack-clash-protection), or it reaches a neighbour's stack.
set(SUBPIX_SIM_FLAVOURS sim check asan)
set(SUBPIX_SIM_FLAGS_sim -O2 -fstack-clash-protection)
set(SUBPIX_SIM_FLAGS_check -O2 -fstack-clash-protection -gdwarf-4 -gno-statement-frontiers -fno-tree-sra -fsanitize=thread --param=tsan-instrument-func-entry-exit=0)
set(SUBPIX_SIM_FLAGS_asan -O1 -gdwarf-4 -g1 -gno-statement-frontiers -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all)
if(SUBPIX_SANITIZE)
  set(SUBPIX_SIM_FLAVOURS asan)   # everything is compiled with AddressSanitizer; it excludes -fsanitize=thread
endif()

# subpix_sim_kernels(name a.cu b.cu ...): a library name_<flavour> for each flavour, from the same sources
# that nvcc compiles. The host compiler gets a generated file of one line for each.
function(subpix_sim_kernels name)
  foreach(source ${ARGN})
    get_filename_component(stem ${source} NAME_WE)
    set(file ${CMAKE_CURRENT_BINARY_DIR}/${name}/${stem}.cpp)
    file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${source})
    file(CONFIGURE OUTPUT ${file} CONTENT "#include \"${path}\"\n")
    list(APPEND files ${file})
  endforeach()
  foreach(flavour ${SUBPIX_SIM_FLAVOURS})
    add_library(${name}_${flavour} STATIC ${files})
    target_link_libraries(${name}_${flavour} PUBLIC subpix_kernels_api subpix_simulator)
    # CUDA code reads floats as float4 and the like; contraction would differ from processor to processor.
    target_compile_options(${name}_${flavour} PRIVATE -Wno-unknown-pragmas -Wno-psabi
      -fno-strict-aliasing -ffp-contract=off ${SUBPIX_SIM_FLAGS_${flavour}})
  endforeach()
  if(TARGET ${name}_asan)
    target_link_options(${name}_asan INTERFACE -fsanitize=address,undefined)
  endif()
endfunction()
