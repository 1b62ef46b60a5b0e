/* Writes down what a process does to the files of one directory ($POWER_CUT_DIR), in order, to $POWER_CUT_TRACE, so that
 * the files can be rebuilt as a power cut would leave them. Preloaded; the process knows nothing of it. One thread only.
 *
 * A record: kind 1, name length 1, name, offset 8, length 8, data. Kinds: C made, W written, T cut or grown to the offset,
 * S synced, U removed, R renamed (the data is the new name). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES 256
static char names[FILES][64];
static int trace = -1;
static ssize_t (*real_write)(int, const void *, size_t);

static const char *name_of(const char *path)
{
    const char *dir = getenv("POWER_CUT_DIR");
    size_t length = dir ? strlen(dir) : 0;
    if (!length || strncmp(path, dir, length))
        return NULL;
    if (!path[length])
        return "."; /* The directory: what is synced are the names in it. */
    return path[length] == '/' && strlen(path + length + 1) < 64 ? path + length + 1 : NULL;
}

static void raw(const void *data, size_t length)
{
    if (real_write(trace, data, length) != (ssize_t)length)
        abort();
}

static void note(char kind, const char *name, uint64_t offset, const void *data, uint64_t length)
{
    if (trace < 0) {
        int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        real_write = dlsym(RTLD_NEXT, "write");
        trace = real_open(getenv("POWER_CUT_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (trace < 0)
            abort();
    }
    unsigned char head[2] = {(unsigned char)kind, (unsigned char)strlen(name)};
    raw(head, 2);
    raw(name, head[1]);
    raw(&offset, 8);
    raw(&length, 8);
    raw(data, length);
}

static const char *of_fd(int fd) { return fd >= 0 && fd < FILES && names[fd][0] ? names[fd] : NULL; }

static int opened(int fd, const char *path, int flags)
{
    const char *name = name_of(path);
    if (fd >= 0 && fd < FILES) {
        names[fd][0] = 0;
        if (name) {
            strcpy(names[fd], name);
            if (flags & O_CREAT)
                note('C', name, 0, "", 0);
            if (flags & O_TRUNC)
                note('T', name, 0, "", 0);
        }
    }
    return fd;
}

#define OPEN(symbol)                                                                                                   \
    int symbol(const char *path, int flags, ...)                                                                       \
    {                                                                                                                  \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #symbol);                                               \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode_t mode = va_arg(arguments, mode_t);                                                                       \
        va_end(arguments);                                                                                             \
        return opened(real(path, flags, mode), path, flags);                                                           \
    }
OPEN(open)
OPEN(open64)

#define PWRITE(symbol, offset_type)                                                                                    \
    ssize_t symbol(int fd, const void *data, size_t length, offset_type offset)                                        \
    {                                                                                                                  \
        ssize_t (*real)(int, const void *, size_t, offset_type) = dlsym(RTLD_NEXT, #symbol);                           \
        ssize_t done = real(fd, data, length, offset);                                                                 \
        if (done > 0 && of_fd(fd))                                                                                     \
            note('W', of_fd(fd), (uint64_t)offset, data, (uint64_t)done);                                              \
        return done;                                                                                                   \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length)
{
    if (!real_write)
        real_write = dlsym(RTLD_NEXT, "write");
    ssize_t done = real_write(fd, data, length);
    if (done > 0 && of_fd(fd))
        note('W', of_fd(fd), (uint64_t)(lseek(fd, 0, SEEK_CUR) - done), data, (uint64_t)done);
    return done;
}

#define TRUNCATE(symbol, offset_type)                                                                                  \
    int symbol(int fd, offset_type length)                                                                             \
    {                                                                                                                  \
        int (*real)(int, offset_type) = dlsym(RTLD_NEXT, #symbol);                                                     \
        int done = real(fd, length);                                                                                   \
        if (!done && of_fd(fd))                                                                                        \
            note('T', of_fd(fd), (uint64_t)length, "", 0);                                                             \
        return done;                                                                                                   \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

/* With POWER_CUT_LIES nothing is ever synced: what `synchronous=OFF` comes to. */
#define SYNC(symbol)                                                                                                   \
    int symbol(int fd)                                                                                                 \
    {                                                                                                                  \
        int (*real)(int) = dlsym(RTLD_NEXT, #symbol);                                                                  \
        if (!of_fd(fd))                                                                                                \
            return real(fd);                                                                                           \
        if (!getenv("POWER_CUT_LIES"))                                                                                 \
            note('S', of_fd(fd), 0, "", 0);                                                                            \
        return 0;                                                                                                      \
    }
SYNC(fsync)
SYNC(fdatasync)

int close(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < FILES)
        names[fd][0] = 0;
    return real(fd);
}

int unlink(const char *path)
{
    int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
    int done = real(path);
    if (!done && name_of(path))
        note('U', name_of(path), 0, "", 0);
    return done;
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    int done = real(from, to);
    if (!done && name_of(from) && name_of(to))
        note('R', name_of(from), 0, name_of(to), strlen(name_of(to)));
    return done;
}
