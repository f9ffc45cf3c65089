// A library for LD_PRELOAD that makes the disk of one process fail, lie or dawdle while it runs.
//
// CHAOS_DISK_PREFIX names the directory whose files are concerned, CHAOS_DISK_CONTROL a file of `struct control` that the
// harness writes and this library maps, so that a fault begins with the next call and costs nothing while there is none.
// Programs with a C library of their own, and io_uring, are out of its reach; power_cut.c sits below both.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The layout is repeated in chaos/disks.py.
struct control {
    _Atomic int32_t sync_error;      // the next syncs fail with this error
    _Atomic int32_t sync_fail_count; // that many of them; below zero: all
    _Atomic int32_t sync_delay;      // each sync takes this many milliseconds longer
    _Atomic int32_t sync_lies;       // syncs do nothing and say that they did
    _Atomic int32_t write_error;     // all writes fail with this error
    _Atomic int32_t hit_count;       // how many calls were tampered with
};

static struct control *control;
static const char *prefix;
static size_t prefix_length;

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("CHAOS_DISK_CONTROL");
    prefix = getenv("CHAOS_DISK_PREFIX");
    if (path == NULL || prefix == NULL) {
        return;
    }
    prefix_length = strlen(prefix);
    int file = open(path, O_RDWR | O_CLOEXEC);
    void *address = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (address == MAP_FAILED) {
        // A fault that is asked for and never comes would make every check after it meaningless.
        fprintf(stderr, "disk_faults: %s cannot be mapped: %s\n", path, strerror(errno));
        abort();
    }
    close(file);
    control = address;
}

static int is_concerned(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t count = readlink(link, path, sizeof path - 1);
    return count >= (ssize_t)prefix_length && memcmp(path, prefix, prefix_length) == 0;
}

// What becomes of a sync: 0 to go on, 1 to pretend, below zero for the error.
static int judge_sync(int descriptor) {
    if (control == NULL) {
        return 0;
    }
    int delay = atomic_load(&control->sync_delay), lies = atomic_load(&control->sync_lies);
    int error = atomic_load(&control->sync_error);
    if ((delay == 0 && lies == 0 && error == 0) || !is_concerned(descriptor)) {
        return 0;
    }
    if (delay > 0) {
        struct timespec pause = {delay / 1000, delay % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
    if (error != 0) {
        int left = atomic_load(&control->sync_fail_count);
        while (left != 0 && !atomic_compare_exchange_weak(&control->sync_fail_count, &left, left < 0 ? left : left - 1)) {
        }
        if (left != 0) {
            atomic_fetch_add(&control->hit_count, 1);
            return -error;
        }
    }
    if (lies != 0) {
        atomic_fetch_add(&control->hit_count, 1);
    }
    return lies != 0;
}

static int is_write_refused(int descriptor) {
    int error = control == NULL ? 0 : atomic_load(&control->write_error);
    if (error == 0 || !is_concerned(descriptor)) {
        return 0;
    }
    atomic_fetch_add(&control->hit_count, 1);
    errno = error;
    return 1;
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (next == NULL) { \
        next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); \
    }

#define SYNC(name) \
    int name(int descriptor) { \
        NEXT(name) \
        int verdict = judge_sync(descriptor); \
        if (verdict < 0) { \
            errno = -verdict; \
            return -1; \
        } \
        return verdict > 0 ? 0 : next(descriptor); \
    }

SYNC(fsync)
SYNC(fdatasync)

#define WRITE(name, parameters, arguments) \
    ssize_t name parameters { \
        NEXT(name) \
        return is_write_refused(descriptor) ? -1 : next arguments; \
    }

WRITE(write, (int descriptor, const void *bytes, size_t count), (descriptor, bytes, count))
WRITE(writev, (int descriptor, const struct iovec *parts, int count), (descriptor, parts, count))
WRITE(pwrite, (int descriptor, const void *bytes, size_t count, off_t position), (descriptor, bytes, count, position))
WRITE(pwrite64, (int descriptor, const void *bytes, size_t count, off64_t position), (descriptor, bytes, count, position))
WRITE(pwritev, (int descriptor, const struct iovec *parts, int count, off_t position), (descriptor, parts, count, position))
WRITE(pwritev64, (int descriptor, const struct iovec *parts, int count, off64_t position),
      (descriptor, parts, count, position))
WRITE(pwritev2, (int descriptor, const struct iovec *parts, int count, off_t position, int flags),
      (descriptor, parts, count, position, flags))
WRITE(pwritev64v2, (int descriptor, const struct iovec *parts, int count, off64_t position, int flags),
      (descriptor, parts, count, position, flags))
