#include "flotilla_crc32c.h"

#include <string.h>

#if defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

// CRC-32C is a remainder of polynomials over GF(2), bits reflected: bit 31 is x^0.
#define POLYNOMIAL 0x82F63B78u

// The instruction has a latency of three cycles and a throughput of one, so three lanes run side by side and their
// remainders are joined with a table: about three times the speed of one lane. Two lane sizes: the long one for
// large batches, and one of which three fit just into 1 KiB.
#define LONG_LANE 4096
#define SHORT_LANE 336

static uint32_t byte_table[8][256];
static uint32_t long_shift[4][256];
static uint32_t short_shift[4][256];

typedef uint32_t (*update_function)(uint32_t state, const uint8_t *bytes, size_t count);

// `state` is the remainder without the inversions at both ends.
static uint32_t update_by_table(uint32_t state, const uint8_t *bytes, size_t count);
static update_function update = update_by_table;

static uint64_t load_word(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static uint32_t update_by_table(uint32_t state, const uint8_t *bytes, size_t count) {
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word = load_word(bytes) ^ state;
        state = 0;
        for (int position = 0; position < 8; position++) {
            state ^= byte_table[7 - position][(word >> (8 * position)) & 0xFF];
        }
    }
    for (; count > 0; bytes++, count--) {
        state = (state >> 8) ^ byte_table[0][(state ^ *bytes) & 0xFF];
    }
    return state;
}

// The product of two remainders.
static uint32_t multiply(uint32_t left, uint32_t right) {
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
        if (left & bit) {
            product ^= right;
        }
        right = (right & 1) ? (right >> 1) ^ POLYNOMIAL : right >> 1;
    }
    return product;
}

// x to the power of 8 * count: what a remainder is multiplied by when `count` zero bytes follow.
static uint32_t power_of_bytes(uint64_t count) {
    uint32_t power = 1u << 31;
    uint32_t square = 1u << 23;
    for (; count > 0; count >>= 1) {
        if (count & 1) {
            power = multiply(power, square);
        }
        square = multiply(square, square);
    }
    return power;
}

#if defined(__x86_64__)
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC_WORD(state, word) ((uint32_t)__builtin_ia32_crc32di((state), (word)))
#define CRC_BYTE(state, byte) __builtin_ia32_crc32qi((state), (byte))
#elif defined(__aarch64__)
#define CRC_TARGET __attribute__((target("crc")))
#define CRC_WORD(state, word) __crc32cd((state), (word))
#define CRC_BYTE(state, byte) __crc32cb((state), (byte))
#endif

#ifdef CRC_TARGET
static inline uint32_t shift(const uint32_t table[4][256], uint32_t state) {
    return table[0][state & 0xFF] ^ table[1][(state >> 8) & 0xFF] ^ table[2][(state >> 16) & 0xFF]
        ^ table[3][state >> 24];
}

CRC_TARGET static inline uint32_t update_three_lanes(
    uint32_t state, const uint8_t *bytes, size_t lane, const uint32_t table[4][256]
) {
    uint32_t second = 0;
    uint32_t third = 0;
    for (size_t position = 0; position < lane; position += 8) {
        state = CRC_WORD(state, load_word(bytes + position));
        second = CRC_WORD(second, load_word(bytes + lane + position));
        third = CRC_WORD(third, load_word(bytes + 2 * lane + position));
    }
    return shift(table, shift(table, state) ^ second) ^ third;
}

CRC_TARGET static uint32_t update_in_hardware(uint32_t state, const uint8_t *bytes, size_t count) {
    for (; count >= 3 * LONG_LANE; bytes += 3 * LONG_LANE, count -= 3 * LONG_LANE) {
        state = update_three_lanes(state, bytes, LONG_LANE, long_shift);
    }
    for (; count >= 3 * SHORT_LANE; bytes += 3 * SHORT_LANE, count -= 3 * SHORT_LANE) {
        state = update_three_lanes(state, bytes, SHORT_LANE, short_shift);
    }
    for (; count >= 8; bytes += 8, count -= 8) {
        state = CRC_WORD(state, load_word(bytes));
    }
    for (; count > 0; bytes++, count--) {
        state = CRC_BYTE(state, *bytes);
    }
    return state;
}

static bool has_instruction(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
#else
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}
#endif

static void fill_shift(uint32_t table[4][256], uint64_t count) {
    uint32_t power = power_of_bytes(count);
    for (int position = 0; position < 4; position++) {
        for (uint32_t value = 0; value < 256; value++) {
            table[position][value] = multiply(power, value << (8 * position));
        }
    }
}

// Runs before main, so that no call has to ask whether the tables are there.
__attribute__((constructor)) static void prepare(void) {
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t state = value;
        for (int bit = 0; bit < 8; bit++) {
            state = (state & 1) ? (state >> 1) ^ POLYNOMIAL : state >> 1;
        }
        byte_table[0][value] = state;
    }
    for (int table = 1; table < 8; table++) {
        for (int value = 0; value < 256; value++) {
            uint32_t before = byte_table[table - 1][value];
            byte_table[table][value] = (before >> 8) ^ byte_table[0][before & 0xFF];
        }
    }
    fill_shift(long_shift, LONG_LANE);
    fill_shift(short_shift, SHORT_LANE);
#ifdef CRC_TARGET
    if (has_instruction()) {
        update = update_in_hardware;
    }
#endif
}

uint32_t flotilla_crc32c(uint32_t crc, const void *bytes, size_t count) {
    return ~update(~crc, bytes, count);
}

uint32_t flotilla_crc32c_by_table(uint32_t crc, const void *bytes, size_t count) {
    return ~update_by_table(~crc, bytes, count);
}

bool flotilla_crc32c_is_hardware(void) {
    return update != update_by_table;
}

uint32_t flotilla_crc32c_concatenate(uint32_t first, uint32_t second, uint64_t second_count) {
    return multiply(power_of_bytes(second_count), first) ^ second;
}
