/* A home gateway in a vendor's own poll loop. Frames come in on standard input as a live capture (pcap), are told apart,
 * and what is recognised is shared through the back end. Each event is a line on standard output. TERM and INT make it
 * leave in order. The arguments are options, as docs/options.md has them.
 *
 *   cc -o home_gateway home_gateway.c $(pkg-config --cflags --libs hailpost)
 *   tcpdump -i br0 -U -w - | ./home_gateway backend='tls://gateways.example:7700?pin=HEX' identity_file=home.pem */
#include <hailpost.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* A capture file's header, the header of each frame in it, and the largest frame that tools write. */
enum { FILE_HEADER = 24, FRAME_HEADER = 16, MAX_FRAME = 262144 };

struct capture {
    int fd; /* -1 once it is over */
    uint32_t link_type;
    int has_header;
    size_t size; /* of what was read and not fed yet */
    uint8_t octets[FRAME_HEADER + MAX_FRAME];
};

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "home_gateway: %s: %s\n", what, why);
    return -1;
}

/* Arguments as options: NAME=VALUE. */
static int configure(hail_config *config, int count, char **arguments)
{
    for (int at = 1; at < count; at++) {
        char *value = strchr(arguments[at], '=');
        if (value == NULL)
            return complain(arguments[at], "write NAME=VALUE");
        *value++ = '\0';
        if (hail_config_set(config, arguments[at], value) != HAIL_OK)
            return complain(arguments[at], hail_config_detail(config));
    }
    return 0;
}

/* An event as a line: its name, and those of its fields that it has. A QoS engine would look at HAIL_EVENT_FLOW here. */
static void print(const hail_event *event)
{
    static const struct {
        uint32_t field;
        const char *name;
    } shown[] = {
        {HAIL_FIELD_APP, "app"},
        {HAIL_FIELD_APP_NAME, "app_name"},
        {HAIL_FIELD_HOW, "how"},
        {HAIL_FIELD_REMOTE_ADDRESS, "remote_address"},
        {HAIL_FIELD_REMOTE_PORT, "remote_port"},
        {HAIL_FIELD_TEXT, "text"},
    };
    printf("%s", hail_event_name(hail_event_kind(event)));
    for (size_t at = 0; at < sizeof shown / sizeof *shown; at++) {
        const char *text = hail_event_text(event, shown[at].field);
        if (text != NULL)
            printf(" %s=%s", shown[at].name, text);
        else if (hail_event_has(event, shown[at].field))
            printf(" %s=%llu", shown[at].name, (unsigned long long)hail_event_u64(event, shown[at].field));
    }
    putchar('\n');
}

/* Reads what there is: call it when the descriptor is readable. All but a part of a frame must have been fed before. */
static int read_capture(hail_gateway *gateway, struct capture *capture)
{
    ssize_t got = read(capture->fd, capture->octets + capture->size, sizeof capture->octets - capture->size);
    if (got < 0)
        return errno == EINTR ? 0 : complain("standard input", strerror(errno));
    if (got == 0) {
        capture->fd = -1;
        hail_gateway_finish(gateway);
    }
    capture->size += (size_t)got;
    return 0;
}

static uint32_t word(const uint8_t *octets)
{
    uint32_t word;
    memcpy(&word, octets, sizeof word);
    return word;
}

/* Feeds the whole frames that were read: 1 if it has to wait for events to be pulled first, negative on failure. */
static int feed_capture(hail_gateway *gateway, struct capture *capture)
{
    size_t at = 0;
    int result = 0;
    if (!capture->has_header && capture->size >= FILE_HEADER) {
        if (word(capture->octets) != 0xa1b2c3d4)
            return complain("standard input", "not a pcap capture of this machine with microseconds");
        capture->link_type = word(capture->octets + 20);
        capture->has_header = 1;
        at = FILE_HEADER;
    }
    while (capture->has_header && capture->size - at >= FRAME_HEADER) {
        const uint8_t *frame = capture->octets + at;
        uint64_t time_us = word(frame) * UINT64_C(1000000) + word(frame + 4);
        size_t size = word(frame + 8);
        if (size > MAX_FRAME)
            return complain("standard input", "a frame is longer than any");
        if (capture->size - at < FRAME_HEADER + size)
            break;
        hail_status status = hail_gateway_feed(gateway, capture->link_type, time_us, frame + FRAME_HEADER, size);
        if (status == HAIL_ERR_FULL) {
            result = 1;
            break;
        }
        /* A frame that is no IP packet is counted and passed over. */
        if (status != HAIL_OK && status != HAIL_ERR_MALFORMED)
            return complain("feed", hail_status_text(status));
        at += FRAME_HEADER + size;
    }
    capture->size -= at;
    memmove(capture->octets, capture->octets + at, capture->size);
    return result;
}

/* The loop: step, pull events, feed, wait. It ends when the gateway has left. */
static int run(hail_loop *loop, hail_gateway *gateway, int signals)
{
    static struct capture capture = {.fd = STDIN_FILENO};
    int leaving = 0;
    while (!leaving || hail_gateway_state(gateway) != HAIL_GATEWAY_DOWN) {
        const hail_event *event;
        if (hail_loop_step(loop) != HAIL_OK)
            return complain("loop", hail_loop_detail(loop));
        while ((event = hail_loop_next_event(loop)) != NULL)
            print(event);
        fflush(stdout);

        int full = feed_capture(gateway, &capture);
        if (full < 0)
            return full;
        struct pollfd wait[] = {
            {hail_loop_fd(loop), POLLIN, 0},
            {signals, POLLIN, 0},
            {full ? -1 : capture.fd, POLLIN, 0}, /* poll() passes over negative ones */
        };
        if (poll(wait, 3, full ? 0 : hail_loop_timeout_ms(loop)) < 0 && errno != EINTR)
            return complain("poll", strerror(errno));
        if (wait[1].revents != 0) {
            leaving = 1;
            hail_gateway_leave(gateway);
            signals = -1;
        }
        if (wait[2].revents != 0 && read_capture(gateway, &capture) < 0)
            return -1;
    }
    return 0;
}

int main(int count, char **arguments)
{
    hail_loop *loop = NULL;
    hail_config *config = NULL;
    hail_gateway *gateway = NULL;
    sigset_t ends;
    int result = -1;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int signals = signalfd(-1, &ends, SFD_CLOEXEC);

    if (signals < 0 || hail_loop_new(&loop) != HAIL_OK || hail_config_new(&config) != HAIL_OK)
        complain("start", "out of memory or descriptors");
    else if (configure(config, count, arguments) == 0) {
        if (hail_gateway_new(loop, config, NULL, &gateway) != HAIL_OK)
            complain("gateway", hail_loop_detail(loop));
        else
            result = run(loop, gateway, signals);
    }
    hail_gateway_free(gateway);
    hail_config_free(config);
    hail_loop_free(loop);
    return result == 0 ? 0 : 1;
}
