#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "flotilla_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#define NANOSECONDS 1000000000LL

_Static_assert(sizeof(struct flotilla_piece) == sizeof(struct iovec), "a piece is an iovec");
_Static_assert(offsetof(struct flotilla_piece, base) == offsetof(struct iovec, iov_base), "a piece is an iovec");
_Static_assert(offsetof(struct flotilla_piece, count) == offsetof(struct iovec, iov_len), "a piece is an iovec");

int64_t flotilla_write_pieces(int descriptor, const struct flotilla_piece *pieces, int count, int64_t position) {
    ssize_t result;
    do {
        result = pwritev(descriptor, (const struct iovec *)pieces, count, position);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

int64_t flotilla_file_length(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) < 0 ? -errno : (int64_t)status.st_size;
}

int flotilla_is_directory(const char *path) {
    struct stat status;
    return lstat(path, &status) < 0 ? -errno : S_ISDIR(status.st_mode) ? 1 : 0;
}

int64_t flotilla_wall_milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

struct flotilla_monitor {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
};

flotilla_monitor *flotilla_monitor_make(void) {
    flotilla_monitor *monitor = malloc(sizeof(flotilla_monitor));
    if (monitor == NULL) {
        return NULL;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&monitor->mutex, NULL);
    pthread_cond_init(&monitor->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return monitor;
}

void flotilla_monitor_free(flotilla_monitor *monitor) {
    pthread_cond_destroy(&monitor->condition);
    pthread_mutex_destroy(&monitor->mutex);
    free(monitor);
}

void flotilla_monitor_lock(flotilla_monitor *monitor) {
    pthread_mutex_lock(&monitor->mutex);
}

void flotilla_monitor_unlock(flotilla_monitor *monitor) {
    pthread_mutex_unlock(&monitor->mutex);
}

void flotilla_monitor_wake_one(flotilla_monitor *monitor) {
    pthread_cond_signal(&monitor->condition);
}

void flotilla_monitor_wake_all(flotilla_monitor *monitor) {
    pthread_cond_broadcast(&monitor->condition);
}

int64_t flotilla_monitor_deadline(int64_t delay) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * NANOSECONDS + time.tv_nsec + delay;
}

int flotilla_monitor_wait(flotilla_monitor *monitor, int64_t deadline) {
    if (deadline < 0) {
        return -pthread_cond_wait(&monitor->condition, &monitor->mutex);
    }
    struct timespec time = {.tv_sec = deadline / NANOSECONDS, .tv_nsec = deadline % NANOSECONDS};
    return -pthread_cond_timedwait(&monitor->condition, &monitor->mutex, &time);
}
