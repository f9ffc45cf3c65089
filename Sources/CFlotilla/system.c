#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "flotilla_system.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/statvfs.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

// A mapping larger than this is asked about in pieces, so that the answers fit on the stack.
#define PAGES_PER_QUESTION 4096

#define REPEAT_IF_INTERRUPTED(result, call) \
    do { \
        (result) = (call); \
    } while ((result) < 0 && errno == EINTR)

#define RETURN_RESULT(type, call) \
    do { \
        type result; \
        REPEAT_IF_INTERRUPTED(result, call); \
        return result < 0 ? -errno : result; \
    } while (0)

int flotilla_open_direct(const char *path) {
    RETURN_RESULT(int, open(path, O_RDONLY | O_CLOEXEC | O_DIRECT));
}

int flotilla_allocate(int descriptor, int64_t position, int64_t count) {
    RETURN_RESULT(int, fallocate(descriptor, 0, position, count));
}

int64_t flotilla_read_vector(int descriptor, const struct iovec *buffers, int count, int64_t position) {
    RETURN_RESULT(int64_t, preadv(descriptor, buffers, count, position));
}

int64_t flotilla_write_vector(int descriptor, const struct iovec *buffers, int count, int64_t position) {
    RETURN_RESULT(int64_t, pwritev(descriptor, buffers, count, position));
}

int flotilla_sync_data(int descriptor) {
    RETURN_RESULT(int, fdatasync(descriptor));
}

int flotilla_sync_all(int descriptor) {
    RETURN_RESULT(int, fsync(descriptor));
}

int flotilla_start_writeback(int descriptor, int64_t position, int64_t count) {
    RETURN_RESULT(int, sync_file_range(descriptor, position, count, SYNC_FILE_RANGE_WRITE));
}

int flotilla_drop_cache(int descriptor, int64_t position, int64_t count) {
    // Unlike the others, this call returns the error instead of setting errno.
    return -posix_fadvise(descriptor, position, count, POSIX_FADV_DONTNEED);
}

void *flotilla_map(int descriptor, int64_t position, size_t count, int *error) {
    void *address = mmap(NULL, count, PROT_READ, MAP_SHARED, descriptor, position);
    if (address == MAP_FAILED) {
        *error = errno;
        return NULL;
    }
    *error = 0;
    return address;
}

int flotilla_unmap(void *address, size_t count) {
    RETURN_RESULT(int, munmap(address, count));
}

int flotilla_populate(void *address, size_t count) {
    RETURN_RESULT(int, madvise(address, count, MADV_POPULATE_READ));
}

int flotilla_is_resident(void *address, size_t count) {
    unsigned char pages[PAGES_PER_QUESTION];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t start = 0; start < count; start += page * PAGES_PER_QUESTION) {
        size_t length = count - start;
        if (length > page * PAGES_PER_QUESTION) {
            length = page * PAGES_PER_QUESTION;
        }
        int result;
        REPEAT_IF_INTERRUPTED(result, mincore((char *)address + start, length, pages));
        if (result < 0) {
            return -errno;
        }
        for (size_t index = 0; index < (length + page - 1) / page; index++) {
            if ((pages[index] & 1) == 0) {
                return 0;
            }
        }
    }
    return 1;
}

int flotilla_advise_random(void *address, size_t count, bool is_random) {
    RETURN_RESULT(int, madvise(address, count, is_random ? MADV_RANDOM : MADV_SEQUENTIAL));
}

int64_t flotilla_send_file(int socket, int file, int64_t position, size_t count) {
    off_t offset = position;
    RETURN_RESULT(int64_t, sendfile(socket, file, &offset, count));
}

int flotilla_space(const char *path, int64_t *free_count, int64_t *total_count) {
    struct statvfs status;
    int result;
    REPEAT_IF_INTERRUPTED(result, statvfs(path, &status));
    if (result < 0) {
        return -errno;
    }
    *free_count = (int64_t)status.f_bavail * (int64_t)status.f_frsize;
    *total_count = (int64_t)status.f_blocks * (int64_t)status.f_frsize;
    return 0;
}

int flotilla_lock_file(int descriptor) {
    RETURN_RESULT(int, flock(descriptor, LOCK_EX | LOCK_NB));
}

int64_t flotilla_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return -errno;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
            return -errno;
        }
    }
    return limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

bool flotilla_keep_freed_memory(int mmap_threshold, int trim_threshold) {
#if defined(__GLIBC__)
    return mallopt(M_MMAP_THRESHOLD, mmap_threshold) == 1 && mallopt(M_TRIM_THRESHOLD, trim_threshold) == 1;
#else
    (void)mmap_threshold;
    (void)trim_threshold;
    return false;
#endif
}

int64_t flotilla_resident_byte_count(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return -errno;
    }
    long long size = 0;
    long long resident = 0;
    int found = fscanf(file, "%lld %lld", &size, &resident);
    fclose(file);
    return found == 2 ? (int64_t)resident * sysconf(_SC_PAGESIZE) : -EIO;
}

int flotilla_name_thread(const char *name) {
    return -pthread_setname_np(pthread_self(), name);
}
