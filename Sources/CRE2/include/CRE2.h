#ifndef CRE2_H
#define CRE2_H

// The little of RE2 that the broker needs, behind functions that C and Swift can call.
//
// RE2 takes time in proportion to the text and never backtracks, so that a client's pattern cannot hold the broker up.
// No exception leaves these functions: where there is no memory left, the process ends, as it does everywhere else.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A compiled expression. Several threads may match with it at once.
struct flotilla_re2;

/// Compiles `count` bytes of UTF-8; any byte may be among them, also 0.
///
/// `memory_limit` is in bytes, for the expression and for what is kept between two matches of it. The result is for
/// `flotilla_re2_free`. Where it is NULL, `explanation` holds RE2's own words with a 0 at their end, cut to `capacity`
/// bytes, of which there is at least one.
struct flotilla_re2 *flotilla_re2_compile(const char *text, size_t count, int64_t memory_limit, char *explanation,
                                          size_t capacity);

/// Whether the expression matches these bytes of UTF-8 from the first to the last.
bool flotilla_re2_matches(const struct flotilla_re2 *expression, const char *bytes, size_t count);

/// How many instructions the expression has: a match takes at most so many steps for each byte of the text.
int flotilla_re2_size(const struct flotilla_re2 *expression);

/// Frees an expression, once.
void flotilla_re2_free(struct flotilla_re2 *expression);

#ifdef __cplusplus
}
#endif

#endif
