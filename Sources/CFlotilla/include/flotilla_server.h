#ifndef FLOTILLA_SERVER_H
#define FLOTILLA_SERVER_H

#include <stdint.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// What only the server's threads and files need, without the C library's structs: which Swift module those belong to depends on what
// else is imported. The rule of flotilla_system.h holds: a result below zero is -errno.

/// A piece of a write, laid out as the system's `iovec`.
struct flotilla_piece {
    const void *base;
    size_t count;
};

/// Writes several pieces from a position; the result is the number of bytes written, which may be fewer than offered.
int64_t flotilla_write_pieces(int descriptor, const struct flotilla_piece *pieces, int count, int64_t position);

/// The length of an open file.
int64_t flotilla_file_length(int descriptor);

/// 1 for a directory, 0 for anything else; a symbolic link is itself, not what it names.
int flotilla_is_directory(const char *path);

/// The wall clock, in milliseconds since 1970.
int64_t flotilla_wall_milliseconds(void);

/// A mutex and a condition on the monotonic clock.
typedef struct flotilla_monitor flotilla_monitor;

/// Makes a monitor; NULL without memory.
flotilla_monitor *flotilla_monitor_make(void);

/// Frees a monitor that nobody uses any longer.
void flotilla_monitor_free(flotilla_monitor *monitor);

/// Takes the mutex.
void flotilla_monitor_lock(flotilla_monitor *monitor);

/// Gives the mutex back.
void flotilla_monitor_unlock(flotilla_monitor *monitor);

/// Wakes one waiting thread.
void flotilla_monitor_wake_one(flotilla_monitor *monitor);

/// Wakes all waiting threads.
void flotilla_monitor_wake_all(flotilla_monitor *monitor);

/// Nanoseconds of the monotonic clock, `delay` from now.
int64_t flotilla_monitor_deadline(int64_t delay);

/// Gives the mutex back, waits to be woken, takes it again. Returns -ETIMEDOUT when the deadline passed; negative deadlines never do.
int flotilla_monitor_wait(flotilla_monitor *monitor, int64_t deadline);

#ifdef __cplusplus
}
#endif

#endif
