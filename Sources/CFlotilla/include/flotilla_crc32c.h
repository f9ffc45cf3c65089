#ifndef FLOTILLA_CRC32C_H
#define FLOTILLA_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// CRC-32C (Castagnoli) of `count` bytes, continuing from `crc`; start with 0.
///
/// The bytes may come in any pieces: the result of one call is the `crc` of the next. Uses the processor's CRC
/// instruction where it has one, else tables; which one is chosen once, before `main`.
uint32_t flotilla_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same by tables alone: what runs on a processor without the instruction, and the witness in tests.
uint32_t flotilla_crc32c_by_table(uint32_t crc, const void *bytes, size_t count);

/// Whether `flotilla_crc32c` uses the processor's instruction.
bool flotilla_crc32c_is_hardware(void);

/// The CRC of two pieces laid end to end, from the CRC of each and the second one's length.
uint32_t flotilla_crc32c_concatenate(uint32_t first, uint32_t second, uint64_t second_count);

#ifdef __cplusplus
}
#endif

#endif
