/* From a verdict to QoS: reads raw IP packets, each after its length in two octets, from standard input, and prints for
 * each flow, as soon as it is recognised, the line that marks it while it goes on. In firmware the packets come from the driver or from NFQUEUE,
 * and the line goes to nftables, or the class to a table of the switch.
 *
 *   nft add table inet qos
 *   nft add set inet qos video '{ type ipv4_addr . inet_service; flags timeout; }'
 *   nft add rule inet qos forward ip saddr . tcp sport @video ip dscp set af41 */
#include <hailpost.h>

#include <stdio.h>
#include <string.h>

/* What this vendor thinks of an application, by the name that the rules file gives it. */
static const char *class_of(const char *name)
{
    if (strcmp(name, "sip") == 0 || strcmp(name, "rtp") == 0 || strcmp(name, "stun") == 0)
        return "voice";
    if (strcmp(name, "bittorrent") == 0)
        return "bulk";
    return "normal";
}

/* A flow that turns out to be another application tells again: the later mark holds. */
static void mark(const hail_event *event)
{
    const char *name = hail_event_text(event, HAIL_FIELD_APP_NAME);
    const char *remote = hail_event_text(event, HAIL_FIELD_REMOTE_ADDRESS);
    if (name == NULL || strchr(remote, ':') != NULL)
        return;
    /* The verdict's way to QoS is this line. */
    printf("add element inet qos %s { %s . %llu timeout 1h } # %s\n", class_of(name), remote,
           (unsigned long long)hail_event_u64(event, HAIL_FIELD_REMOTE_PORT), name);
    fflush(stdout);
}

static void pull(hail_loop *loop)
{
    const hail_event *event;
    hail_loop_step(loop);
    while ((event = hail_loop_next_event(loop)) != NULL)
        if (hail_event_kind(event) == HAIL_EVENT_RECOGNISED)
            mark(event);
}

int main(void)
{
    static unsigned char packet[65536];
    hail_loop *loop = NULL;
    hail_config *config = NULL;
    hail_recognizer *recognizer = NULL;
    int high, low;
    if (hail_loop_new(&loop) != HAIL_OK || hail_config_new(&config) != HAIL_OK)
        return 1;
    if (hail_recognizer_new(loop, config, NULL, &recognizer) != HAIL_OK)
        return fprintf(stderr, "%s\n", hail_loop_detail(loop)), 1;
    while ((high = getchar()) != EOF && (low = getchar()) != EOF) {
        size_t size = fread(packet, 1, (size_t)(high << 8 | low), stdin);
        /* Anything that is no IP packet is counted and passed over. */
        while (hail_recognizer_feed(recognizer, HAIL_LINK_RAW, 0, packet, size) == HAIL_ERR_FULL)
            pull(loop);
        pull(loop);
    }
    hail_recognizer_finish(recognizer);
    pull(loop);
    hail_recognizer_free(recognizer);
    hail_config_free(config);
    hail_loop_free(loop);
    return 0;
}
