/* A device of a post office in a vendor's own poll loop. A line of standard input such as "user:anna the kettle boils" is put
 * for that receiver, and waits there if nobody is; what comes is printed and confirmed. TERM and INT make it leave in
 * order. The arguments are options, as docs/options.md has them.
 *
 *   cc -o device_poll device_poll.c $(pkg-config --cflags --libs hailpost)
 *   ./device_poll credential_file=anna.credential store=anna.db */
#include <hailpost.h>

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "device_poll: %s: %s\n", what, why);
    return 1;
}

/* "RECEIVER TEXT" from standard input. A full outbox is no loss: the sender is told, and says it again later. */
static void put(hail_loop *loop, hail_device *device, char *line)
{
    uint64_t number = 0;
    char *text = strchr(line, ' ');
    if (text == NULL) {
        complain(line, "write user:NAME, a space, and a text");
        return;
    }
    *text++ = '\0';
    if (hail_device_put(device, line, 1, 0, NULL, (const uint8_t *)text, strlen(text), &number) != HAIL_OK)
        complain(line, hail_loop_detail(loop));
    else
        printf("put %" PRIu64 "\n", number);
}

/* Lines of standard input, as far as there are whole ones. 0 at its end. */
static int read_lines(hail_loop *loop, hail_device *device)
{
    static char held[70000];
    static size_t size;
    ssize_t count = read(STDIN_FILENO, held + size, sizeof held - size);
    if (count <= 0)
        return 0;
    size += (size_t)count;
    char *line = held, *end;
    while ((end = memchr(line, '\n', size - (size_t)(line - held))) != NULL) {
        *end = '\0';
        put(loop, device, line);
        line = end + 1;
    }
    size -= (size_t)(line - held);
    memmove(held, line, size);
    if (size == sizeof held)
        size = 0; /* no line is so long */
    return 1;
}

static void tell(hail_loop *loop, hail_device *device, const hail_event *event)
{
    uint64_t number = hail_event_u64(event, HAIL_FIELD_NUMBER), sequence;
    const uint8_t *body;
    size_t size = 0;
    switch (hail_event_kind(event)) {
    case HAIL_EVENT_MESSAGE:
        sequence = hail_event_u64(event, HAIL_FIELD_SEQUENCE);
        body = hail_event_bytes(event, HAIL_FIELD_BODY, &size);
        printf("%s %s%.*s\n", hail_event_text(event, HAIL_FIELD_SENDER),
               hail_event_u64(event, HAIL_FIELD_REDELIVERED) ? "(again) " : "", (int)size, (const char *)body);
        /* Only now that it is dealt with: had we died before, it would come again. */
        if (hail_device_confirm(device, sequence) != HAIL_OK)
            complain("confirm", hail_loop_detail(loop));
        break;
    case HAIL_EVENT_STORED:
    case HAIL_EVENT_EXPIRED:
        printf("%s %" PRIu64 "\n", hail_event_name(hail_event_kind(event)), number);
        break;
    case HAIL_EVENT_ACCEPTED:
        printf("accepted %" PRIu64 " %s\n", number, hail_event_text(event, HAIL_FIELD_STATE));
        break;
    case HAIL_EVENT_REJECTED:
        printf("rejected %" PRIu64 " %" PRIu64 "\n", number, hail_event_u64(event, HAIL_FIELD_CODE));
        break;
    case HAIL_EVENT_WELCOME:
        printf("welcome %" PRIu64 " waiting %" PRIu64 " missed\n", hail_event_u64(event, HAIL_FIELD_WAITING),
               hail_event_u64(event, HAIL_FIELD_MISSED));
        break;
    default:
        printf("%s %s\n", hail_event_name(hail_event_kind(event)),
               hail_event_has(event, HAIL_FIELD_TEXT) ? hail_event_text(event, HAIL_FIELD_TEXT) : "");
    }
}

int main(int count, char **arguments)
{
    hail_loop *loop = NULL;
    hail_config *config = NULL;
    hail_device *device = NULL;
    sigset_t leaving;
    if (hail_loop_new(&loop) != HAIL_OK || hail_config_new(&config) != HAIL_OK)
        return complain("start", "no memory or no descriptors");
    for (int at = 1; at < count; at++) {
        char *value = strchr(arguments[at], '=');
        if (value == NULL)
            return complain(arguments[at], "write NAME=VALUE");
        *value++ = '\0';
        if (hail_config_set(config, arguments[at], value) != HAIL_OK)
            return complain(arguments[at], hail_config_detail(config));
    }
    if (hail_device_new(loop, config, NULL, &device) != HAIL_OK)
        return complain("device", hail_loop_detail(loop));
    hail_config_free(config);
    sigemptyset(&leaving);
    sigaddset(&leaving, SIGINT);
    sigaddset(&leaving, SIGTERM);
    sigprocmask(SIG_BLOCK, &leaving, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);

    struct pollfd wait[3] = {{hail_loop_fd(loop), POLLIN, 0},
                             {signalfd(-1, &leaving, SFD_CLOEXEC), POLLIN, 0},
                             {STDIN_FILENO, POLLIN, 0}};
    while (poll(wait, 3, hail_loop_timeout_ms(loop)) >= 0 && !(wait[1].revents & POLLIN)) {
        if (wait[2].revents != 0 && !read_lines(loop, device))
            wait[2].fd = -1;
        if (hail_loop_step(loop) != HAIL_OK)
            return complain("loop", hail_loop_detail(loop));
        const hail_event *event;
        while ((event = hail_loop_next_event(loop)) != NULL)
            tell(loop, device, event);
    }
    hail_device_close(device);
    hail_loop_step(loop);
    hail_device_free(device);
    hail_loop_free(loop);
    return 0;
}
