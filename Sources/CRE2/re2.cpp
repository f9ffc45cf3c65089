#include "CRE2.h"

#include <re2/re2.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

struct flotilla_re2 {
    // The braces make whatever type this version of RE2 takes for text: its own StringPiece, or since 2023 Abseil's
    // string_view.
    flotilla_re2(const char *text, size_t count, const RE2::Options &options) : expression({text, count}, options) {}

    RE2 expression;
};

flotilla_re2 *flotilla_re2_compile(const char *text, size_t count, int64_t memory_limit, char *explanation,
                                   size_t capacity) {
    try {
        RE2::Options options(RE2::Quiet);
        options.set_encoding(RE2::Options::EncodingUTF8);
        options.set_max_mem(memory_limit);
        options.set_never_capture(true);
        auto compiled = std::make_unique<flotilla_re2>(text, count, options);
        if (compiled->expression.ok()) {
            return compiled.release();
        }
        const std::string &error = compiled->expression.error();
        const size_t length = error.size() < capacity ? error.size() : capacity - 1;
        std::memcpy(explanation, error.data(), length);
        explanation[length] = 0;
        return nullptr;
    } catch (...) {
        std::abort();
    }
}

bool flotilla_re2_matches(const flotilla_re2 *expression, const char *bytes, size_t count) {
    try {
        return expression->expression.Match({bytes, count}, 0, count, RE2::ANCHOR_BOTH, nullptr, 0);
    } catch (...) {
        std::abort();
    }
}

int flotilla_re2_size(const flotilla_re2 *expression) {
    return expression->expression.ProgramSize();
}

void flotilla_re2_free(flotilla_re2 *expression) {
    delete expression;
}
