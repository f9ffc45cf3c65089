// A file system in user space that can lose what was not synced, as a disk does when the power goes.
//
//     power_cut BACKING MOUNTPOINT
//
// Files lie in BACKING as they look now. Beside them this process remembers, for every 4 KiB page that was changed since
// the last sync of its file, what it was before; and for every name that was made, moved or removed since the last sync of
// its directory, how to undo that. A sync forgets; a cut goes back. Commands are written to MOUNTPOINT/.power-cut, one to a
// write, and are done when the write returns:
//
//     cut survive=30 torn=1 seed=7   each unsynced page survives with 30 %, a torn one only in its first sectors of 512
//                                    bytes; of the unsynced names the oldest survive, up to a random one
//     lie 1                          syncs are acknowledged and do nothing, until `lie 0`
//
// The model: content and length of a file are safe after fsync, fdatasync or a write with O_SYNC or O_DSYNC; a new name is
// safe after a sync of the file or of its directory; a move or a removal after a sync of the directory. Pages of one file
// survive out of order, so that holes of zeros appear; names survive in order, as in a file system with a journal.
//
// One thread does everything, so there are no locks, and a cut falls between two calls. The users of the files must be
// dead when it comes: a machine without power runs no programs.
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PAGE 4096
#define SECTOR 512
#define BUCKETS 1024
#define CONTROL "/.power-cut"
#define GRAVES "/.graves"

// A page that was changed since the last sync; `before` is NULL where there was nothing.
struct page {
    struct page *next;
    uint64_t number;
    uint8_t *before;
};

// A file with unsynced content, or open. `descriptor` is our own.
struct file {
    struct file *next;
    ino_t inode;
    int descriptor;
    int open_count;
    off_t synced_size;
    bool is_gone;
    struct page *pages[BUCKETS];
};

enum change_kind { MADE_FILE, MADE_DIRECTORY, MOVED, REMOVED_FILE, REMOVED_DIRECTORY };

// A change of names that a cut undoes. `grave` is where a removed or replaced file lies meanwhile.
struct change {
    struct change *older;
    enum change_kind kind;
    ino_t inode;
    mode_t mode;
    char *from, *to, *grave;
};

static char backing[PATH_MAX];
static struct file *files;
static struct change *changes; // the newest first
static unsigned long grave_count;
static bool is_lying;
static uint64_t random_state = 0x9E3779B97F4A7C15ull;

static double random_unit(void) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

static char *join(const char *path) {
    char *joined = NULL;
    if (asprintf(&joined, "%s%s", backing, path) < 0) {
        abort();
    }
    return joined;
}

static bool is_reserved(const char *path) {
    return path != NULL && (strcmp(path, CONTROL) == 0 || strncmp(path, GRAVES, strlen(GRAVES)) == 0);
}

static ino_t inode_at(const char *path) {
    char *place = join(path);
    struct stat status;
    ino_t inode = lstat(place, &status) == 0 ? status.st_ino : 0;
    free(place);
    return inode;
}

// ---- Content

static struct file *find_file(ino_t inode) {
    for (struct file *file = files; file != NULL; file = file->next) {
        if (file->inode == inode) {
            return file;
        }
    }
    return NULL;
}

// The state of a file; -errno in `*error` where it cannot be opened.
static struct file *enter_file(const char *path, int *error) {
    char *place = join(path);
    int descriptor = open(place, O_RDWR | O_CLOEXEC);
    free(place);
    if (descriptor < 0) {
        *error = -errno;
        return NULL;
    }
    struct stat status;
    if (fstat(descriptor, &status) < 0) {
        *error = -errno;
        close(descriptor);
        return NULL;
    }
    struct file *file = find_file(status.st_ino);
    if (file != NULL) {
        close(descriptor);
        return file;
    }
    file = calloc(1, sizeof *file);
    file->inode = status.st_ino;
    file->descriptor = descriptor;
    file->synced_size = status.st_size;
    file->next = files;
    files = file;
    return file;
}

static off_t size_of(const struct file *file) {
    struct stat status;
    return fstat(file->descriptor, &status) < 0 ? 0 : status.st_size;
}

static void forget_pages(struct file *file) {
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        struct page *page = file->pages[bucket];
        while (page != NULL) {
            struct page *next = page->next;
            free(page->before);
            free(page);
            page = next;
        }
        file->pages[bucket] = NULL;
    }
}

// Forgets a file that neither is open nor has a name any more, so that its inode may come again.
static void leave_file(struct file *file) {
    if (!file->is_gone || file->open_count > 0) {
        return;
    }
    for (struct file **place = &files; *place != NULL; place = &(*place)->next) {
        if (*place == file) {
            *place = file->next;
            break;
        }
    }
    forget_pages(file);
    close(file->descriptor);
    free(file);
}

static void remember_page(struct file *file, uint64_t number) {
    struct page **bucket = &file->pages[number % BUCKETS];
    for (struct page *page = *bucket; page != NULL; page = page->next) {
        if (page->number == number) {
            return;
        }
    }
    struct page *page = calloc(1, sizeof *page);
    page->number = number;
    if ((off_t)(number * PAGE) < file->synced_size) {
        page->before = calloc(1, PAGE);
        if (pread(file->descriptor, page->before, PAGE, (off_t)(number * PAGE)) < 0) {
            abort();
        }
    }
    page->next = *bucket;
    *bucket = page;
}

static void remember_range(struct file *file, off_t start, off_t end) {
    for (off_t number = start / PAGE; number * PAGE < end; number++) {
        remember_page(file, (uint64_t)number);
    }
}

static int resize(struct file *file, off_t size) {
    off_t present = size_of(file);
    if (size < present) {
        remember_range(file, size, present);
    }
    return ftruncate(file->descriptor, size) < 0 ? -errno : 0;
}

static void make_durable(struct file *file) {
    forget_pages(file);
    file->synced_size = size_of(file);
}

// ---- Names

static void note(enum change_kind kind, const char *from, const char *to, ino_t inode, mode_t mode, char *grave) {
    struct change *change = calloc(1, sizeof *change);
    change->kind = kind;
    change->from = strdup(from);
    change->to = to == NULL ? NULL : strdup(to);
    change->inode = inode;
    change->mode = mode;
    change->grave = grave;
    change->older = changes;
    changes = change;
}

// Moves a file out of sight until its removal is safe; NULL and errno where that fails.
static char *bury(const char *path) {
    char *place = join(path), *grave = NULL;
    if (asprintf(&grave, "%s" GRAVES "/%lu", backing, grave_count++) < 0) {
        abort();
    }
    if (rename(place, grave) < 0) {
        free(grave);
        grave = NULL;
    }
    free(place);
    return grave;
}

static void clear_grave(struct change *change) {
    struct stat status;
    if (change->grave == NULL) {
        return;
    }
    if (lstat(change->grave, &status) == 0) {
        struct file *file = find_file(status.st_ino);
        unlink(change->grave);
        if (file != NULL) {
            file->is_gone = true;
            leave_file(file);
        }
    }
    free(change->grave);
}

static void free_change(struct change *change) {
    clear_grave(change);
    free(change->from);
    free(change->to);
    free(change);
}

static bool is_inside(const char *path, const char *directory) {
    const char *slash = strrchr(path, '/');
    size_t length = strcmp(directory, "/") == 0 ? 0 : strlen(directory);
    return slash != NULL && (size_t)(slash - path) == length && strncmp(path, directory, length) == 0;
}

// Makes safe what a sync of a directory makes safe; or, without one, the name of a file that was synced.
static void settle_names(const char *directory, ino_t inode) {
    for (struct change **place = &changes; *place != NULL;) {
        struct change *change = *place;
        bool is_safe = directory != NULL ? is_inside(change->to != NULL ? change->to : change->from, directory)
                                         : change->kind == MADE_FILE && change->inode == inode;
        if (is_safe) {
            *place = change->older;
            free_change(change);
        } else {
            place = &change->older;
        }
    }
}

static void remove_tree(const char *place) {
    DIR *directory = opendir(place);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        char *inner = NULL;
        if (asprintf(&inner, "%s/%s", place, entry->d_name) < 0) {
            abort();
        }
        struct stat status;
        if (lstat(inner, &status) < 0) {
            abort();
        }
        if (S_ISDIR(status.st_mode)) {
            remove_tree(inner);
        } else {
            struct file *file = find_file(status.st_ino);
            if (unlink(inner) == 0 && file != NULL) {
                file->is_gone = true;
                leave_file(file);
            }
        }
        free(inner);
    }
    if (directory != NULL) {
        closedir(directory);
    }
    rmdir(place);
}

static void undo(struct change *change) {
    char *from = join(change->from), *to = change->to == NULL ? NULL : join(change->to);
    switch (change->kind) {
    case MADE_FILE:
        // It may have been moved away since by a move that is safe.
        if (inode_at(change->from) == change->inode) {
            struct file *file = find_file(change->inode);
            unlink(from);
            if (file != NULL) {
                file->is_gone = true;
                leave_file(file);
            }
        }
        break;
    case MADE_DIRECTORY:
        if (inode_at(change->from) == change->inode) {
            remove_tree(from);
        }
        break;
    case MOVED:
        if (inode_at(change->to) == change->inode && rename(to, from) == 0 && change->grave != NULL
            && rename(change->grave, to) == 0) {
            free(change->grave);
            change->grave = NULL;
        }
        break;
    case REMOVED_FILE:
        if (inode_at(change->from) == 0 && rename(change->grave, from) == 0) {
            free(change->grave);
            change->grave = NULL;
        }
        break;
    case REMOVED_DIRECTORY:
        mkdir(from, change->mode);
        break;
    }
    free(from);
    free(to);
}

// ---- The cut

// Puts back a page, all of it or all but its first `kept` bytes.
static void restore_page(struct file *file, const struct page *page, off_t kept) {
    static const uint8_t zeros[PAGE];
    const uint8_t *before = page->before == NULL ? zeros : page->before;
    if (pwrite(file->descriptor, before + kept, (size_t)(PAGE - kept), (off_t)(page->number * PAGE) + kept) < 0) {
        abort();
    }
}

static void cut_file(struct file *file, double survive, bool is_torn) {
    off_t present = size_of(file), end = file->synced_size;
    bool is_shortened = present < end && random_unit() < survive;
    if (is_shortened) {
        end = present;
    }
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        for (struct page *page = file->pages[bucket]; page != NULL; page = page->next) {
            off_t start = (off_t)(page->number * PAGE);
            if (start >= present || random_unit() >= survive) {
                restore_page(file, page, 0);
                continue;
            }
            off_t kept = PAGE;
            if (is_torn && random_unit() < 0.5) {
                kept = (off_t)(random_unit() * (PAGE / SECTOR)) * SECTOR;
                restore_page(file, page, kept);
            }
            off_t kept_end = start + kept < present ? start + kept : present;
            if (!is_shortened && kept_end > end) {
                end = kept_end;
            }
        }
    }
    if (ftruncate(file->descriptor, end) < 0) {
        abort();
    }
    make_durable(file);
}

static void cut(double survive, bool is_torn) {
    for (struct file *file = files; file != NULL; file = file->next) {
        cut_file(file, survive, is_torn);
    }
    unsigned long pending = 0;
    for (struct change *change = changes; change != NULL; change = change->older) {
        pending++;
    }
    unsigned long undone = survive <= 0 ? pending : (unsigned long)(random_unit() * (double)(pending + 1));
    while (changes != NULL) {
        struct change *change = changes;
        changes = change->older;
        if (undone > 0) {
            undo(change);
            undone--;
        }
        free_change(change);
    }
}

static int obey(const char *bytes, size_t count) {
    char line[256];
    int survive = 0, is_torn = 0, lies = 0;
    unsigned long long seed = 0;
    snprintf(line, sizeof line, "%.*s", (int)count, bytes);
    if (sscanf(line, "cut survive=%d torn=%d seed=%llu", &survive, &is_torn, &seed) == 3) {
        random_state = seed * 0x9E3779B97F4A7C15ull + 1;
        cut(survive / 100.0, is_torn != 0);
    } else if (sscanf(line, "lie %d", &lies) == 1) {
        is_lying = lies != 0;
    } else {
        return -EINVAL;
    }
    return (int)count;
}

// ---- What the kernel asks

static struct file *file_of(const struct fuse_file_info *info) {
    return (struct file *)(uintptr_t)info->fh;
}

static int on_getattr(const char *path, struct stat *status, struct fuse_file_info *info) {
    if (info != NULL && info->fh != 0) {
        return fstat(file_of(info)->descriptor, status) < 0 ? -errno : 0;
    }
    if (strcmp(path, CONTROL) == 0) {
        memset(status, 0, sizeof *status);
        status->st_mode = S_IFREG | 0200;
        status->st_nlink = 1;
        return 0;
    }
    char *place = join(path);
    int result = lstat(place, status) < 0 ? -errno : 0;
    free(place);
    return result;
}

static int on_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *info,
                      enum fuse_readdir_flags flags) {
    (void)offset;
    (void)info;
    (void)flags;
    char *place = join(path);
    DIR *directory = opendir(place);
    free(place);
    if (directory == NULL) {
        return -errno;
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(path, "/") != 0 || strcmp(entry->d_name, GRAVES + 1) != 0) {
            fill(buffer, entry->d_name, NULL, 0, 0);
        }
    }
    closedir(directory);
    return 0;
}

static int open_file(const char *path, struct fuse_file_info *info) {
    int error = 0;
    struct file *file = enter_file(path, &error);
    if (file == NULL) {
        return error;
    }
    if (info->flags & O_TRUNC) {
        error = resize(file, 0);
    }
    file->open_count++;
    info->fh = (uint64_t)(uintptr_t)file;
    return error;
}

static int on_open(const char *path, struct fuse_file_info *info) {
    info->fh = 0;
    return strcmp(path, CONTROL) == 0 ? 0 : open_file(path, info);
}

static int on_create(const char *path, mode_t mode, struct fuse_file_info *info) {
    if (is_reserved(path)) {
        return -EPERM;
    }
    char *place = join(path);
    int made = open(place, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    free(place);
    if (made < 0 && errno != EEXIST) {
        return -errno;
    }
    if (made >= 0) {
        struct stat status;
        fstat(made, &status);
        note(MADE_FILE, path, NULL, status.st_ino, mode, NULL);
        close(made);
    }
    return open_file(path, info);
}

static int on_release(const char *path, struct fuse_file_info *info) {
    (void)path;
    if (info->fh != 0) {
        struct file *file = file_of(info);
        file->open_count--;
        leave_file(file);
    }
    return 0;
}

static int on_read(const char *path, char *bytes, size_t count, off_t position, struct fuse_file_info *info) {
    (void)path;
    if (info->fh == 0) {
        return 0;
    }
    ssize_t found = pread(file_of(info)->descriptor, bytes, count, position);
    return found < 0 ? -errno : (int)found;
}

static int on_write(const char *path, const char *bytes, size_t count, off_t position, struct fuse_file_info *info) {
    (void)path;
    if (info->fh == 0) {
        return obey(bytes, count);
    }
    struct file *file = file_of(info);
    remember_range(file, position, position + (off_t)count);
    ssize_t written = pwrite(file->descriptor, bytes, count, position);
    if (written < 0) {
        return -errno;
    }
    if ((info->flags & (O_SYNC | O_DSYNC)) && !is_lying) {
        make_durable(file);
    }
    return (int)written;
}

static int on_fsync(const char *path, int is_data_only, struct fuse_file_info *info) {
    (void)path;
    (void)is_data_only;
    if (info->fh != 0 && !is_lying) {
        make_durable(file_of(info));
        settle_names(NULL, file_of(info)->inode);
    }
    return 0;
}

static int on_fsyncdir(const char *path, int is_data_only, struct fuse_file_info *info) {
    (void)is_data_only;
    (void)info;
    if (!is_lying) {
        settle_names(path, 0);
    }
    return 0;
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *info) {
    int error = 0;
    if (strcmp(path, CONTROL) == 0) {
        return 0;
    }
    struct file *file = info != NULL && info->fh != 0 ? file_of(info) : enter_file(path, &error);
    return file == NULL ? error : resize(file, size);
}

static int on_fallocate(const char *path, int mode, off_t position, off_t count, struct fuse_file_info *info) {
    (void)path;
    if (mode != 0) {
        return -EOPNOTSUPP;
    }
    struct file *file = file_of(info);
    // Really allocated, so that a backing file system that is full says so now.
    return fallocate(file->descriptor, 0, position, count) < 0 ? -errno : 0;
}

static int on_mkdir(const char *path, mode_t mode) {
    char *place = join(path);
    int result = mkdir(place, mode) < 0 ? -errno : 0;
    free(place);
    if (result == 0) {
        note(MADE_DIRECTORY, path, NULL, inode_at(path), mode, NULL);
    }
    return result;
}

static int on_unlink(const char *path) {
    if (is_reserved(path)) {
        return -EPERM;
    }
    ino_t inode = inode_at(path);
    char *grave = bury(path);
    if (grave == NULL) {
        return -errno;
    }
    note(REMOVED_FILE, path, NULL, inode, 0, grave);
    return 0;
}

static int on_rmdir(const char *path) {
    char *place = join(path);
    struct stat status;
    int result = lstat(place, &status) < 0 || rmdir(place) < 0 ? -errno : 0;
    free(place);
    if (result == 0) {
        note(REMOVED_DIRECTORY, path, NULL, status.st_ino, status.st_mode & 07777, NULL);
    }
    return result;
}

static int on_rename(const char *from, const char *to, unsigned flags) {
    if (flags != 0 || is_reserved(from) || is_reserved(to)) {
        return -EINVAL;
    }
    char *from_place = join(from), *to_place = join(to), *grave = NULL;
    struct stat status;
    int result = 0;
    ino_t inode = inode_at(from);
    if (inode == 0) {
        result = -ENOENT;
    } else if (lstat(to_place, &status) == 0 && S_ISREG(status.st_mode) && (grave = bury(to)) == NULL) {
        result = -errno;
    } else if (rename(from_place, to_place) < 0) {
        result = -errno;
        if (grave != NULL && rename(grave, to_place) < 0) {
            abort();
        }
        free(grave);
    } else {
        note(MOVED, from, to, inode, 0, grave);
    }
    free(from_place);
    free(to_place);
    return result;
}

static int on_statfs(const char *path, struct statvfs *status) {
    char *place = join(path);
    int result = statvfs(place, status) < 0 ? -errno : 0;
    free(place);
    return result;
}

static int on_chmod(const char *path, mode_t mode, struct fuse_file_info *info) {
    (void)info;
    char *place = join(path);
    int result = chmod(place, mode) < 0 ? -errno : 0;
    free(place);
    return result;
}

static int on_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info) {
    (void)info;
    char *place = join(path);
    int result = utimensat(AT_FDCWD, place, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    free(place);
    return result;
}

static void *on_init(struct fuse_conn_info *connection, struct fuse_config *configuration) {
    (void)connection;
    // Nothing may be remembered by the kernel that a cut changes; unlink must come to us also for open files.
    configuration->attr_timeout = configuration->entry_timeout = configuration->negative_timeout = 0;
    configuration->use_ino = 1;
    configuration->hard_remove = 1;
    return NULL;
}

static const struct fuse_operations operations = {
    .getattr = on_getattr,
    .readdir = on_readdir,
    .open = on_open,
    .create = on_create,
    .release = on_release,
    .read = on_read,
    .write = on_write,
    .fsync = on_fsync,
    .fsyncdir = on_fsyncdir,
    .truncate = on_truncate,
    .fallocate = on_fallocate,
    .mkdir = on_mkdir,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .rename = on_rename,
    .statfs = on_statfs,
    .chmod = on_chmod,
    .utimens = on_utimens,
    .init = on_init,
};

int main(int count, char **arguments) {
    if (count != 3 || realpath(arguments[1], backing) == NULL) {
        fprintf(stderr, "usage: power_cut BACKING MOUNTPOINT\n");
        return 2;
    }
    char *graves = join(GRAVES);
    if (mkdir(graves, 0700) < 0 && errno != EEXIST) {
        perror(graves);
        return 1;
    }
    free(graves);
    // Ours is the place where modes were decided already.
    umask(0);
    char *options[] = {arguments[0], "-f", "-s", "-o", "default_permissions,fsname=power_cut", arguments[2], NULL};
    return fuse_main(6, options, &operations, NULL);
}
