/*
 * Hailpost: the C interface. Read this once; it holds for every function.
 *
 * One loop. A hail_loop owns sockets and timers; everything else is made on a loop. A turn is: wait on hail_loop_fd()
 * for at most hail_loop_timeout_ms(), call hail_loop_step(), pull events with hail_loop_next_event() until it gives
 * NULL. Nothing blocks, name resolution included, and there is nothing else to call. The descriptor works with poll,
 * select and epoll. hail_loop_run() is the same for a program that has no loop of its own. A step that stopped on its
 * work budget leaves a timeout of 0.
 *
 * Threads. A loop and what was made on it belong to one thread at a time; different loops need no lock. Only
 * hail_loop_wake() may be called from any thread, as long as the loop is not freed meanwhile. The library starts no
 * thread, and touches no signal, environment variable, stdout or stderr. After fork() the child may use nothing that
 * the parent made: calls answer HAIL_ERR_INVALID, and a free in the child gives nothing back.
 *
 * Callbacks (the log) run only inside a hail_ call, on the calling thread, with no lock held. A call into the same loop
 * from there answers HAIL_ERR_REENTRANT, save hail_loop_wake() and hail_loop_detail(); a free from there takes effect
 * when the outer call returns. A callback must return: it may not throw or longjmp.
 *
 * Failure. Functions answer HAIL_OK (0) or a negative HAIL_ERR_...; those that answer something else say what they give
 * on failure. A call that fails writes none of its outputs and leaves the object as it was, but for
 * hail_device_put_wait() at its limit; hail_loop_detail() tells what failed, on what, and what to do, without secrets.
 * From -90 down a status is fatal: after it only _free is of use. NULL where an object, text or output is wanted, text
 * that is not UTF-8, a wrong size or a number out of range answers HAIL_ERR_INVALID. What fails later, by itself, is
 * always an event.
 *
 * Memory. Free what you were given with the function of its type; NULL may always be freed. What you pass is copied.
 * Objects may be freed in any order, the loop before or after what was made on it. An event, and what it points to,
 * lives until the next hail_loop_next_event(), hail_loop_step() or hail_loop_run() on its loop, or until the loop is
 * freed. Text is UTF-8 and ends in NUL; octets are a pointer and a size, and NULL is good for size 0. Addresses are 16
 * octets in network order, IPv4 as ::ffff:a.b.c.d; ports and all other numbers are in the machine's order.
 *
 * Structs that may grow begin with their size: set it to sizeof before the call. Durations end in _ms, or in _s where
 * they are seconds. The header is the same for every build profile: what a build leaves out answers
 * HAIL_ERR_UNSUPPORTED. Numbers are never used again for another meaning; new statuses, event kinds and fields may
 * appear, so let a switch have a default.
 *
 * A panic is a bug of ours: it is caught at the edge, answers HAIL_ERR_PANIC, and its loop is of no more use.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from the source: see tests/header.rs.
 */

#ifndef HAILPOST_H
#define HAILPOST_H

#include <stddef.h>
#include <stdint.h>

#define HAIL_OK 0 /**< done. */
#define HAIL_ERR_INVALID (-1) /**< an argument is not valid. Retry: never. */
#define HAIL_ERR_REENTRANT (-2) /**< the loop was called from its own callback: return first. Retry: never. */
#define HAIL_ERR_UNSUPPORTED (-3) /**< this build leaves that out: link a fuller profile. Retry: never. */
#define HAIL_ERR_CONFIG (-4) /**< the configuration has an error: the detail names it. Retry: after a change. */
#define HAIL_ERR_NOT_FOUND (-5) /**< there is nothing by that name. Retry: never. */
#define HAIL_ERR_STATE (-6) /**< the object is not in a state for that. Retry: later. */
#define HAIL_ERR_IO (-20) /**< the system refused an operation: the detail names it. Retry: later. */
#define HAIL_ERR_RESOLVE (-21) /**< the host name could not be resolved. Retry: later. */
#define HAIL_ERR_CONNECT (-22) /**< the peer could not be reached. Retry: later. */
#define HAIL_ERR_CLOSED (-23) /**< the connection was closed. Retry: later. */
#define HAIL_ERR_TIMEOUT (-24) /**< there was no answer in time. Retry: later. */
#define HAIL_ERR_TLS (-25) /**< the TLS handshake failed. Retry: after a change. */
#define HAIL_ERR_IDENTITY (-26) /**< the peer's key is not the trusted one: check the pin or CA. Retry: after a change. */
#define HAIL_ERR_LISTEN (-27) /**< the address cannot be listened on. Retry: after a change. */
#define HAIL_ERR_FULL (-40) /**< a bound is reached: wait for the writable event. Retry: later. */
#define HAIL_ERR_STORE (-41) /**< the store failed: nothing was acknowledged. Retry: later. */
#define HAIL_ERR_STORE_CORRUPT (-42) /**< the store is damaged: it was set aside. Retry: after a change. */
#define HAIL_ERR_STORE_VERSION (-43) /**< the store is of a newer version: upgrade first. Retry: after a change. */
#define HAIL_ERR_STORE_LOCKED (-44) /**< the store is in use by another process. Retry: later. */
#define HAIL_ERR_MALFORMED (-60) /**< the message is malformed: the detail names the octet. Retry: never. */
#define HAIL_ERR_REFUSED (-61) /**< the peer refused: the detail has its reason. Retry: after a change. */
#define HAIL_ERR_BARRED (-62) /**< barred by the operator: it must be allowed again. Retry: after a change. */
#define HAIL_ERR_PATTERN (-63) /**< the rule's pattern cannot be used: the detail says why. Retry: never. */
#define HAIL_ERR_WORDS (-64) /**< the words cannot be used: the detail says why. Retry: never. */
#define HAIL_ERR_PANIC (-90) /**< a bug in the library: free the loop and report it. Retry: never. */
#define HAIL_ERR_NOMEM (-91) /**< out of memory. Retry: later. */

#define HAIL_EVENT_REGISTERED 1 /**< This gateway registered. */
#define HAIL_EVENT_REFUSED 2 /**< The back end refused this gateway: reason, text. */
#define HAIL_EVENT_DOWN 3 /**< The link is lost, or could not be made; it is tried again: status, text. */
#define HAIL_EVENT_SYNCED 4 /**< All that the back end held at registration is here. */
#define HAIL_EVENT_RESULT 5 /**< The back end told of a result: the fields of a record. app 0 takes an earlier one back. */
#define HAIL_EVENT_RULES 6 /**< The set of rules changed: count rules hold. */
#define HAIL_EVENT_PARAMETERS 7 /**< A trained rule came: app, words. */
#define HAIL_EVENT_ACKNOWLEDGED 8 /**< A report is durable at the back end: the fields of a record. */
#define HAIL_EVENT_WRITABLE 9 /**< There is room for reports again. */
#define HAIL_EVENT_DEREGISTERED 10 /**< Off the back end's list: by_backend. */
#define HAIL_EVENT_FEATURES_ACKNOWLEDGED 11 /**< Reported features are durable at the back end: app. */
#define HAIL_EVENT_FLOW 12 /**< A flow ended, recognised or not: five-tuple, app, how, packets, octets. */
#define HAIL_EVENT_RULE_REJECTED 13 /**< A rule that came cannot be used and is left out: app, text. */
#define HAIL_EVENT_REPORT_DROPPED 14 /**< A report was given up, which a plain back end never acknowledged: the fields of a record. */
#define HAIL_EVENT_FEATURES_DROPPED 15 /**< Reported features were given up, which a plain back end never acknowledged: app. */
#define HAIL_EVENT_RECOGNISED 16 /**< A flow that goes on is recognised, or turns out to be another application: five-tuple, app, how. */
#define HAIL_EVENT_GATEWAY_REGISTERED 20 /**< A gateway registered: gateway, name, group, key. */
#define HAIL_EVENT_GATEWAY_SYNCED 21 /**< A gateway acknowledged its first sync. */
#define HAIL_EVENT_GATEWAY_REFUSED 22 /**< Somebody was refused: key, reason, text. */
#define HAIL_EVENT_GATEWAY_GONE 23 /**< A gateway is gone: status, text. */
#define HAIL_EVENT_GATEWAY_DEREGISTERED 24 /**< A gateway left, or was taken off: by_backend. */
#define HAIL_EVENT_IDENTIFIED 25 /**< A gateway's identification is durable: gateway and the fields of a record. */
#define HAIL_EVENT_FEATURES 26 /**< A gateway's features are durable: gateway, app, words. */
#define HAIL_EVENT_DURABLE 27 /**< What was asked for with ticket is durable: at a back end up to it, at an office that alone. */
#define HAIL_EVENT_TRAINED 28 /**< Training ended: group, app, accepted, text. */
#define HAIL_EVENT_STORE_FAILING 29 /**< The store fails: status, text. Nothing is acknowledged until it works again. */
#define HAIL_EVENT_STORE_RECOVERED 30 /**< The store works again. */
#define HAIL_EVENT_LOGGED_IN 40 /**< This device or application is logged in: resumed. */
#define HAIL_EVENT_WELCOME 41 /**< What the office holds for this device follows: waiting, and missed, which are gone because they were too many or too old. */
#define HAIL_EVENT_MESSAGE 42 /**< A message for this device or application: sequence, sender, sent, redelivered, content_type, body. It comes again in the next life unless it is confirmed. */
#define HAIL_EVENT_CONFIRMED 43 /**< A confirmation is durable: the message is never shown again: sequence. */
#define HAIL_EVENT_STORED 44 /**< A message of this device is durable here, and goes out once whatever happens: number. */
#define HAIL_EVENT_ACCEPTED 45 /**< The office has a message of this device: number, state. */
#define HAIL_EVENT_REJECTED 46 /**< The office will not have a message of this device: number, code. */
#define HAIL_EVENT_EXPIRED 47 /**< The time of a message of this device was over before the office had it: number. */
#define HAIL_EVENT_ANSWER 48 /**< What became of a request: request, code. */
#define HAIL_EVENT_PRESENCE 49 /**< Where a user is, one event for each that was asked for: user, online, since, and request of a device or id of an application. */
#define HAIL_EVENT_DRAINING 50 /**< The office is about to stop: it is logged in elsewhere, or later, by itself. */
#define HAIL_EVENT_ANSWERED 51 /**< The end of an application's request: id, code, and of a message that was taken state, of what was refused text. */
#define HAIL_EVENT_SUSPENDED 52 /**< This device sends nothing, and has nothing due, until it is resumed: told. */
#define HAIL_EVENT_DEVICE_ONLINE 60 /**< A device logged in at this office: inbox, resumed. */
#define HAIL_EVENT_DEVICE_OFFLINE 61 /**< A device is no longer there: inbox, text. */
#define HAIL_EVENT_STALE 62 /**< So much waited for a device, or it was silent for so long, that nothing is kept for it until it comes: inbox, missed. */
#define HAIL_EVENT_FAILED 63 /**< What was asked for cannot be done: ticket, status, text. */
#define HAIL_EVENT_BROKER_UP 64 /**< A broker can be used: a balancer gives it to devices: name. */
#define HAIL_EVENT_BROKER_DOWN 65 /**< A broker cannot be used any more: name, text. */
#define HAIL_EVENT_AUTHENTICATE 66 /**< Somebody logs in by a session that the store does not know: the application admits or refuses it by this ticket. */
#define HAIL_EVENT_WARNING 90 /**< Something to know that is no failure: text. */

#define HAIL_FIELD_STATUS 1 /**< A Status as a number (two's complement). */
#define HAIL_FIELD_TEXT 2 /**< A line for people. */
#define HAIL_FIELD_REASON 3 /**< A Reason. */
#define HAIL_FIELD_COUNT 4 /**< How many. */
#define HAIL_FIELD_APP 5 /**< AppID. */
#define HAIL_FIELD_LOCAL_ADDRESS 6 /**< Address of the end inside, as text. */
#define HAIL_FIELD_LOCAL_PORT 7 /**< Its port. */
#define HAIL_FIELD_REMOTE_ADDRESS 8 /**< Address of the end outside, as text. */
#define HAIL_FIELD_REMOTE_PORT 9 /**< Its port. */
#define HAIL_FIELD_PROTOCOL 10 /**< SPEC R-07: 1 TCP, 2 UDP. */
#define HAIL_FIELD_BY_BACKEND 11 /**< 1 when the back end or its operator did it. */
#define HAIL_FIELD_GATEWAY 12 /**< Names a gateway's registration. */
#define HAIL_FIELD_NAME 13 /**< A name that people gave. */
#define HAIL_FIELD_GROUP 14 /**< A group. */
#define HAIL_FIELD_KEY 15 /**< A key id: 32 octets. */
#define HAIL_FIELD_WORDS 16 /**< 32-bit words, big-endian. */
#define HAIL_FIELD_TICKET 17 /**< A ticket. */
#define HAIL_FIELD_ACCEPTED 18 /**< 1 when it was taken. */
#define HAIL_FIELD_HOW 19 /**< rule, model, shared or none. */
#define HAIL_FIELD_PACKETS 20 /**< Packets seen. */
#define HAIL_FIELD_OCTETS 21 /**< Octets seen, as on the wire. */
#define HAIL_FIELD_APP_NAME 22 /**< Names an application for people. */
#define HAIL_FIELD_NUMBER 23 /**< Names a message that this end gave. */
#define HAIL_FIELD_SEQUENCE 24 /**< Names a message that this end got: rises, never repeats. */
#define HAIL_FIELD_SENDER 25 /**< Who sent it, user:NAME or app:NAME. The office has checked that. */
#define HAIL_FIELD_SENT 26 /**< When the office took it, in Unix seconds. */
#define HAIL_FIELD_REDELIVERED 27 /**< 1 when it was shown before, in an earlier life. */
#define HAIL_FIELD_CONTENT_TYPE 28 /**< As in MIME, such as text/plain. */
#define HAIL_FIELD_BODY 29 /**< At most 64 KiB. */
#define HAIL_FIELD_STATE 30 /**< stored, queued, routed or dropped. */
#define HAIL_FIELD_CODE 31 /**< 200, or why not (docs/post-office.md). */
#define HAIL_FIELD_MISSED 32 /**< Messages that are gone. */
#define HAIL_FIELD_WAITING 33 /**< Messages that follow. */
#define HAIL_FIELD_REQUEST 34 /**< Names a request. */
#define HAIL_FIELD_USER 35 /**< A user's name. */
#define HAIL_FIELD_ONLINE 36 /**< 1 when one of the user's devices is there. */
#define HAIL_FIELD_SINCE 37 /**< Of the last change, in Unix seconds; 0 when nobody knows. */
#define HAIL_FIELD_INBOX 38 /**< Names a device at its office. */
#define HAIL_FIELD_RESUMED 39 /**< 1 when a ticket of an earlier session saved the handshake. */
#define HAIL_FIELD_ID 40 /**< Names an application's request; of a message it is the message's. */
#define HAIL_FIELD_SESSION 41 /**< The public name of a credential: 16 octets. */
#define HAIL_FIELD_TOLD 42 /**< 1 when the office knows, and keeps the session. */

/**
 * The same call fails again, always.
 */
#define HAIL_RETRY_NEVER 0

/**
 * The same call may succeed later; what retries by itself does so.
 */
#define HAIL_RETRY_LATER 1

/**
 * Only after the configuration, the enrolment or a file was changed.
 */
#define HAIL_RETRY_AFTER_CONFIG 2

/**
 * Nothing is logged.
 */
#define HAIL_LOG_OFF 0

/**
 * A bug, or a loss.
 */
#define HAIL_LOG_ERROR 1

/**
 * Something does not work, and is tried again or left out.
 */
#define HAIL_LOG_WARNING 2

/**
 * Objects and links come and go.
 */
#define HAIL_LOG_INFO 3

/**
 * Each result, rule and flow.
 */
#define HAIL_LOG_DEBUG 4

/**
 * The options of a gateway and a recogniser.
 */
#define HAIL_ROLE_GATEWAY 1

/**
 * The options of a back end.
 */
#define HAIL_ROLE_BACKEND 2

/**
 * The options of a post office.
 */
#define HAIL_ROLE_OFFICE 3

/**
 * The options of a device.
 */
#define HAIL_ROLE_DEVICE 4

/**
 * The options of an application.
 */
#define HAIL_ROLE_APP 5

/**
 * TCP, in a record.
 */
#define HAIL_PROTOCOL_TCP 1

/**
 * UDP, in a record.
 */
#define HAIL_PROTOCOL_UDP 2

/**
 * Not connected; tries again by itself unless it left.
 */
#define HAIL_GATEWAY_DOWN 1

/**
 * Waits for the connection.
 */
#define HAIL_GATEWAY_CONNECTING 2

/**
 * Waits for the answer to its registration.
 */
#define HAIL_GATEWAY_REGISTERING 3

/**
 * Registered.
 */
#define HAIL_GATEWAY_ACTIVE 4

/**
 * Waits for the answer to its deregistration.
 */
#define HAIL_GATEWAY_LEAVING 5

/**
 * Ethernet frames, for hail_gateway_feed() and hail_recognizer_feed(). The numbers are those of capture files
 * (LINKTYPE_...): 0 BSD loopback, 101 and 228 and 229 raw IP, 113 and 276 Linux cooked.
 */
#define HAIL_LINK_ETHERNET 1

/**
 * Packets that begin with their IP header.
 */
#define HAIL_LINK_RAW 101

/**
 * The word of this gateway alone is enough, where others must agree.
 */
#define HAIL_ENROL_TRUSTED 1

/**
 * The set of features that gateways measure and models are made of: in the first word of both (docs/training.md).
 */
#define HAIL_FEATURE_SET 1

/**
 * How many features that set has.
 */
#define HAIL_FEATURE_COUNT 60

/**
 * The application may send to users and applications.
 */
#define HAIL_RIGHT_SEND 1

/**
 * It may send to everybody.
 */
#define HAIL_RIGHT_BROADCAST 2

/**
 * It may ask where users are.
 */
#define HAIL_RIGHT_QUERY 4

/**
 * Room for the id of a message or a request, with its NUL.
 */
#define HAIL_ID_SIZE 65

/**
 * The message waits at the office for who is not there.
 */
#define HAIL_MESSAGE_KEEP 1

/**
 * The message is for everybody: `to` is "*".
 */
#define HAIL_MESSAGE_BROADCAST 2

/**
 * An application's end of a post office.
 */
typedef struct hail_app hail_app;

/**
 * A back end's end of the gateway protocol, with its store and its training.
 */
typedef struct hail_backend hail_backend;

/**
 * Octets that the library gave. They are wiped when they are freed, since they may be a key.
 */
typedef struct hail_buffer hail_buffer;

/**
 * A set of options, each with a name and a default: docs/options.md has them all. It belongs to no loop, and may be
 * freed once an object was made of it.
 */
typedef struct hail_config hail_config;

/**
 * A device's end of a post office: its session, its outbox and its inbox.
 */
typedef struct hail_device hail_device;

/**
 * Something that happened: a kind, and fields. It lives until the next hail_loop_next_event(), hail_loop_step() or
 * hail_loop_run() on its loop, or until the loop is freed, and so does all that it points to.
 */
typedef struct hail_event hail_event;

/**
 * A gateway's end of the gateway protocol, and its recognition of flows.
 */
typedef struct hail_gateway hail_gateway;

/**
 * Owns sockets and timers. All else is made on one.
 */
typedef struct hail_loop hail_loop;

/**
 * A post office, with its store.
 */
typedef struct hail_office hail_office;

/**
 * Names the applications of flows, for a program that shares nothing.
 */
typedef struct hail_recognizer hail_recognizer;

/**
 * What became of a call: HAIL_OK, or one of HAIL_ERR_..., all of which are negative. -1 to -19 the caller, -20 to -39
 * I/O and TLS, -40 to -59 queues and storage, -60 to -79 the protocol, -80 to -89 channels, from -90 fatal.
 */
typedef int32_t hail_status;

/**
 * Takes a line of the log. `user` is what was given with the callback; `level` is a HAIL_LOG_...; `text` lives for the
 * length of the call, is one line and has no line end.
 */
typedef void (*hail_log_fn)(void *user, int32_t level, const char *text);

/**
 * What an application's flows look like from outside: `struct hail_record record = { sizeof record };`, then the rest.
 */
typedef struct hail_record {
    /**
     * sizeof(struct hail_record). Later versions may add fields behind; octets that a version does not know must be 0.
     */
    uint32_t size;
    /**
     * AppID: what the application is called on the wire.
     */
    uint32_t app;
    /**
     * The end inside, 16 octets in network order, IPv4 as ::ffff:a.b.c.d.
     */
    uint8_t local_address[16];
    /**
     * The end outside.
     */
    uint8_t remote_address[16];
    /**
     * Port of the end inside.
     */
    uint16_t local_port;
    /**
     * Port of the end outside.
     */
    uint16_t remote_port;
    /**
     * HAIL_PROTOCOL_TCP or HAIL_PROTOCOL_UDP.
     */
    uint8_t protocol;
    /**
     * 0.
     */
    uint8_t reserved[3];
} hail_record;

/**
 * A message of an application: `struct hail_message message = { sizeof message };`, then what differs from 0 and NULL.
 */
typedef struct hail_message {
    /**
     * sizeof(struct hail_message). Later versions may add fields behind; octets that a version does not know must be 0.
     */
    uint32_t size;
    /**
     * HAIL_MESSAGE_..., added up.
     */
    uint32_t flags;
    /**
     * 1 to 64 visible ASCII characters, never used before by this application: sent again with the same content, the message
     * is delivered once. NULL for one that is made.
     */
    const char *id;
    /**
     * "user:NAME" or "app:NAME", up to 1,000 of them with commas; or "*": who follows this application, and with
     * HAIL_MESSAGE_BROADCAST everybody.
     */
    const char *to;
    /**
     * Up to 128 characters; NULL for "text/plain".
     */
    const char *content_type;
    /**
     * The body, of up to 65536 octets.
     */
    const uint8_t *body;
    /**
     * How many it has.
     */
    size_t body_size;
    /**
     * Of a broadcast for who logs in during a period: its first second of Unix time, else 0.
     */
    uint64_t period_start;
    /**
     * Its end.
     */
    uint64_t period_end;
    /**
     * After how many seconds it is stale, up to 30 days; 0 for a week.
     */
    uint32_t ttl_s;
    /**
     * 0.
     */
    uint32_t reserved;
} hail_message;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's version, such as "0.1.0". Static.
 */
const char *hail_version(void);

/**
 * One line for people about a status: what it means and what to do. Static. For a number that is no status, "unknown
 * status".
 */
const char *hail_status_text(hail_status status);

/**
 * Whether trying again can help: a HAIL_RETRY_..., or HAIL_ERR_INVALID for a number that is no status.
 */
int32_t hail_status_retry(hail_status status);

/**
 * The octets of a buffer, with a NUL behind them that the size does not count; NULL for NULL.
 */
const uint8_t *hail_buffer_data(const struct hail_buffer *buffer);

/**
 * How many octets a buffer has; 0 for NULL.
 */
size_t hail_buffer_size(const struct hail_buffer *buffer);

/**
 * Frees a buffer.
 */
void hail_buffer_free(struct hail_buffer *buffer);

/**
 * A message as JSON. `kind` is "gateway" (IPv4 headers) or "gateway6" (IPv6); the forms are in docs/json.md.
 *
 * HAIL_ERR_MALFORMED: it cannot be read; `detail`, unless NULL, gets a buffer with the octet and the reason.
 * HAIL_ERR_NOT_FOUND: there is no such kind. No other output is written on failure.
 */
hail_status hail_decode(const char *kind,
                        const uint8_t *octets,
                        size_t size,
                        struct hail_buffer **json,
                        struct hail_buffer **detail);

/**
 * The octets of a message that is JSON: the way back, to the same octets.
 *
 * HAIL_ERR_INVALID: it is no such JSON; `detail`, unless NULL, gets a buffer with the member and what is wanted there.
 * HAIL_ERR_NOT_FOUND: there is no such kind. No other output is written on failure.
 */
hail_status hail_encode(const char *kind,
                        const char *json,
                        struct hail_buffer **octets,
                        struct hail_buffer **detail);

/**
 * Makes a configuration in which every option has its default.
 */
hail_status hail_config_new(struct hail_config **config);

/**
 * Frees a configuration.
 */
void hail_config_free(struct hail_config *config);

/**
 * Sets an option from text: numbers in decimal, switches as "true" and "false", lists with commas.
 *
 * HAIL_ERR_CONFIG: there is no such option, or its value cannot be used; hail_config_detail() says why.
 */
hail_status hail_config_set(struct hail_config *config, const char *name, const char *value);

/**
 * Sets an option from octets, for secrets, which are never shown again. Text options take UTF-8.
 *
 * HAIL_ERR_CONFIG: as hail_config_set().
 */
hail_status hail_config_set_bytes(struct hail_config *config,
                                  const char *name,
                                  const uint8_t *value,
                                  size_t size);

/**
 * Sets what the section of a TOML file says that a role (a HAIL_ROLE_...) has, such as [gateway]. Keys are the names of
 * options; paths are relative to the file. A secret does not stand in it, but the path of a file of mode 0600 that
 * holds it.
 *
 * HAIL_ERR_IO: the file cannot be read. HAIL_ERR_CONFIG: a key or value cannot be used; the detail has the line. Then
 * none of them is set.
 */
hail_status hail_config_load(struct hail_config *config,
                             int32_t role,
                             const char *path);

/**
 * Every option that a role (HAIL_ROLE_...) understands with what holds, as TOML; secrets only as set or not set.
 */
hail_status hail_config_dump(const struct hail_config *config,
                             int32_t role,
                             struct hail_buffer **toml);

/**
 * What failed last on this configuration. Empty when nothing did yet; valid until the next failure.
 */
const char *hail_config_detail(const struct hail_config *config);

/**
 * Makes a loop.
 *
 * HAIL_ERR_IO: the system has no descriptors left.
 */
hail_status hail_loop_new(struct hail_loop **loop);

/**
 * Frees a loop: its sockets are closed, its events are gone. What was made on it may be freed before or after; calls
 * on it then answer HAIL_ERR_INVALID.
 */
void hail_loop_free(struct hail_loop *loop);

/**
 * The descriptor to wait on, for reading: one for the loop's whole life. A negative status on failure.
 */
int32_t hail_loop_fd(const struct hail_loop *loop);

/**
 * How long to wait at most, in milliseconds; -1 for as long as it takes; 0 when there is something to do, and on
 * failure, which the step after it then tells of.
 */
int32_t hail_loop_timeout_ms(const struct hail_loop *loop);

/**
 * One turn, without waiting: reads and writes what the sockets allow, lets due timers fire, commits the stores once.
 * Events of it are pulled with hail_loop_next_event().
 *
 * HAIL_ERR_IO: the system refuses to say what is ready. HAIL_ERR_PANIC: free the loop.
 */
hail_status hail_loop_step(struct hail_loop *loop);

/**
 * Turns the loop until an event waits to be pulled, hail_loop_wake() is called or a signal comes: HAIL_OK; or until
 * `limit_ms` milliseconds are over: HAIL_ERR_TIMEOUT. A limit of -1 is none.
 */
hail_status hail_loop_run(struct hail_loop *loop,
                          int32_t limit_ms);

/**
 * Ends a wait on the loop's descriptor and hail_loop_run(), now or the next one. From any thread, from a callback, and
 * from a signal handler.
 */
hail_status hail_loop_wake(const struct hail_loop *loop);

/**
 * The next event, or NULL when none is left. The one before it is gone.
 */
const struct hail_event *hail_loop_next_event(struct hail_loop *loop);

/**
 * What failed last on this loop or on what was made on it: what, on what, and what to do. It holds no secret. Empty
 * when nothing failed yet; valid until the next failure.
 */
const char *hail_loop_detail(const struct hail_loop *loop);

/**
 * Says that the device has another network now: pauses before a new try end at once, live links are tried, and names
 * are looked up anew.
 */
hail_status hail_loop_network_changed(struct hail_loop *loop);

/**
 * Sends log lines up to `level` (a HAIL_LOG_...) to a callback, which must stay good until it is replaced or the loop
 * is freed. NULL, or HAIL_LOG_OFF, stops them. Lines hold no secret and no address.
 */
hail_status hail_loop_set_log(struct hail_loop *loop,
                              int32_t level,
                              hail_log_fn callback,
                              void *user);

/**
 * A counter of the loop by name, such as "accepted": docs/counters.md has them all.
 *
 * HAIL_ERR_NOT_FOUND: there is none by that name.
 */
hail_status hail_loop_counter(const struct hail_loop *loop, const char *name, uint64_t *value);

/**
 * Puts an address that is text ("192.0.2.1", "2001:db8::1") into the 16 octets of a record.
 *
 * HAIL_ERR_INVALID: it is no address; host names are not looked up.
 */
hail_status hail_address_parse(const char *address, uint8_t *octets);

/**
 * What happened: a HAIL_EVENT_...; 0 for NULL.
 */
uint32_t hail_event_kind(const struct hail_event *event);

/**
 * The name of a kind of event in snake case, such as "registered". Static; empty for a number that is no kind.
 */
const char *hail_event_name(uint32_t kind);

/**
 * The object that it happened to, to be compared with the pointers you hold; NULL once that object was freed.
 */
const void *hail_event_source(const struct hail_event *event);

/**
 * The `user` that was given when that object was made.
 */
void *hail_event_user(const struct hail_event *event);

/**
 * 1 when the event carries this field (a HAIL_FIELD_...), else 0.
 */
int32_t hail_event_has(const struct hail_event *event, uint32_t field);

/**
 * A field that is a number; 0 when the event has none such. HAIL_FIELD_STATUS is a hail_status: cast it.
 */
uint64_t hail_event_u64(const struct hail_event *event, uint32_t field);

/**
 * A field that is text; NULL when the event has none such.
 */
const char *hail_event_text(const struct hail_event *event, uint32_t field);

/**
 * A field that is octets, their number in `size`; NULL, and `size` left alone, when the event has none such.
 */
const uint8_t *hail_event_bytes(const struct hail_event *event, uint32_t field, size_t *size);

/**
 * The two ends, protocol and application of an event about a flow or result (HAIL_EVENT_RESULT, _ACKNOWLEDGED,
 * _IDENTIFIED, _RECOGNISED, _FLOW) as a record, whose `size` you set. An application that is not known is 0.
 *
 * HAIL_ERR_NOT_FOUND: the event is of another kind.
 */
hail_status hail_event_record(const struct hail_event *event,
                              struct hail_record *record);

/**
 * Makes a gateway on a loop. It registers from the next step on and stays registered by itself; HAIL_EVENT_REGISTERED,
 * _REFUSED and _DOWN tell how that goes. `user` comes back with each of its events.
 *
 * HAIL_ERR_CONFIG: the option `backend` is missing, or one cannot be used. HAIL_ERR_PATTERN: the rules file.
 */
hail_status hail_gateway_new(struct hail_loop *loop,
                             const struct hail_config *config,
                             void *user,
                             struct hail_gateway **gateway);

/**
 * Frees a gateway: its connection is closed without a word (hail_gateway_leave() says one), its events are gone.
 */
void hail_gateway_free(struct hail_gateway *gateway);

/**
 * Where it stands: a HAIL_GATEWAY_..., or a negative status on failure.
 */
int32_t hail_gateway_state(const struct hail_gateway *gateway);

/**
 * Tells the back end which application is at a remote end. The report is kept, over lost links, until
 * HAIL_EVENT_ACKNOWLEDGED says that it is durable there.
 *
 * HAIL_ERR_FULL: `max_reports` wait already; HAIL_EVENT_WRITABLE says when there is room.
 * HAIL_ERR_UNSUPPORTED: an IPv6 flow with `family` = 4.
 */
hail_status hail_gateway_report(struct hail_gateway *gateway, const struct hail_record *record);

/**
 * Tells the back end the features of a flow of an application that is unlike those before it: at most 256 words.
 *
 * HAIL_ERR_WORDS: there are more. HAIL_ERR_FULL: as hail_gateway_report().
 */
hail_status hail_gateway_report_features(struct hail_gateway *gateway,
                                         uint32_t app,
                                         const uint32_t *words,
                                         size_t count);

/**
 * What others recognised at a remote end: 16 octets of address, port, HAIL_PROTOCOL_....
 *
 * HAIL_ERR_NOT_FOUND: nothing is known about it.
 */
hail_status hail_gateway_result(const struct hail_gateway *gateway,
                                const uint8_t *address,
                                uint16_t port,
                                uint8_t protocol,
                                uint32_t *app);

/**
 * What the back end told, as a JSON list (docs/json.md): `what` is "results" or "rules".
 *
 * HAIL_ERR_NOT_FOUND: there is no such list.
 */
hail_status hail_gateway_list(const struct hail_gateway *gateway,
                              const char *what,
                              struct hail_buffer **json);

/**
 * Reports that wait for their acknowledgement, in `count`: once it is 0, all that was reported is durable.
 */
hail_status hail_gateway_pending(const struct hail_gateway *gateway, size_t *count);

/**
 * Leaves the back end in order, and stays away until hail_gateway_join(). HAIL_EVENT_DEREGISTERED says that it is done.
 */
hail_status hail_gateway_leave(struct hail_gateway *gateway);

/**
 * Registers now, without waiting for a pause: after leaving, or when the operator has allowed the gateway again.
 */
hail_status hail_gateway_join(struct hail_gateway *gateway);

/**
 * Changes the pause between heartbeats, at least 1 ms; holds from the next heartbeat on.
 */
hail_status hail_gateway_set_heartbeat_ms(struct hail_gateway *gateway, uint32_t heartbeat_ms);

/**
 * Feeds a captured frame to recognition. `link_type` is a LINKTYPE_ number such as HAIL_LINK_ETHERNET; `time_us` is 0
 * for now, or microseconds of any clock of yours that the frames of this gateway keep to. What is recognised is told to
 * the back end, and to you by HAIL_EVENT_RECOGNISED while the flow goes on and HAIL_EVENT_FLOW when it ends.
 *
 * HAIL_ERR_MALFORMED: it is no IP packet; it is counted and otherwise ignored. HAIL_ERR_STATE: `rules` is none.
 * HAIL_ERR_FULL: too many events wait: step the loop, pull them, and feed it again.
 */
hail_status hail_gateway_feed(struct hail_gateway *gateway,
                              uint32_t link_type,
                              uint64_t time_us,
                              const uint8_t *frame,
                              size_t size);

/**
 * Ends every flow, for a capture that is over: each tells its last event.
 *
 * HAIL_ERR_STATE: `rules` is none.
 */
hail_status hail_gateway_finish(struct hail_gateway *gateway);

/**
 * A counter by name, such as "resent", or "recognize.flows" for those of recognition and "link.resumed" for those of the link on
 * hail://: docs/counters.md has them all.
 *
 * HAIL_ERR_NOT_FOUND: there is none by that name.
 */
hail_status hail_gateway_counter(const struct hail_gateway *gateway,
                                 const char *name,
                                 uint64_t *value);

/**
 * Makes a recogniser on a loop, by the options `rules`, `inside`, `max_automaton_octets` and `max_flows`.
 *
 * HAIL_ERR_CONFIG: an option cannot be used, or `rules` is none. HAIL_ERR_PATTERN: the rules file.
 */
hail_status hail_recognizer_new(struct hail_loop *loop,
                                const struct hail_config *config,
                                void *user,
                                struct hail_recognizer **recognizer);

/**
 * Frees a recogniser.
 */
void hail_recognizer_free(struct hail_recognizer *recognizer);

/**
 * Feeds a captured frame, as hail_gateway_feed(). A flow tells HAIL_EVENT_RECOGNISED once it is recognised, and
 * HAIL_EVENT_FLOW when it ends.
 *
 * HAIL_ERR_MALFORMED: it is no IP packet; it is counted and otherwise ignored. HAIL_ERR_FULL: too many events wait:
 * step the loop, pull them, and feed it again.
 */
hail_status hail_recognizer_feed(struct hail_recognizer *recognizer,
                                 uint32_t link_type,
                                 uint64_t time_us,
                                 const uint8_t *frame,
                                 size_t size);

/**
 * Ends every flow, for a capture that is over: each tells its HAIL_EVENT_FLOW.
 */
hail_status hail_recognizer_finish(struct hail_recognizer *recognizer);

/**
 * A counter by name, such as "flows": docs/counters.md has them all.
 *
 * HAIL_ERR_NOT_FOUND: there is none by that name.
 */
hail_status hail_recognizer_counter(const struct hail_recognizer *recognizer,
                                    const char *name,
                                    uint64_t *value);

/**
 * Makes a back end on a loop: opens its store and listens. `user` comes back with each of its events.
 *
 * HAIL_ERR_CONFIG: an option cannot be used. HAIL_ERR_LISTEN: an address is taken. HAIL_ERR_STORE, _CORRUPT, _VERSION,
 * _LOCKED: the store's file.
 */
hail_status hail_backend_new(struct hail_loop *loop,
                             const struct hail_config *config,
                             void *user,
                             struct hail_backend **backend);

/**
 * Frees a back end: its sockets are closed, its events are gone, and what was not yet told to be durable may be lost.
 */
void hail_backend_free(struct hail_backend *backend);

/**
 * Where it listens: address and port, in the order of the option `listen`, from 0. The text lives as long as the
 * back end.
 *
 * HAIL_ERR_NOT_FOUND: it listens on fewer.
 */
hail_status hail_backend_address(const struct hail_backend *backend,
                                 size_t index,
                                 const char **address,
                                 uint16_t *port);

/**
 * Enrols a gateway by its key (32 octets, as hail_identity_generate() gives them), or changes its enrolment. `name` is
 * for people, at most 255 octets; `group` is whom it shares with, at most 64; `flags` is 0 or HAIL_ENROL_TRUSTED.
 * `ticket`, unless NULL, gets a number: the HAIL_EVENT_DURABLE with this ticket or a later one says that it is kept.
 *
 * HAIL_ERR_INVALID: name, group or flags.
 */
hail_status hail_backend_enrol(struct hail_backend *backend,
                               const uint8_t *key_id,
                               const char *name,
                               const char *group,
                               uint32_t flags,
                               uint64_t *ticket);

/**
 * Enrols a gateway for hail://, by a credential that is drawn for it. `name`, `group` and `flags` as hail_backend_enrol(). `url` is
 * where the gateway finds the back end, such as "hail://backend.example:7704", to which the key is added; NULL is for the first
 * hail:// address that it listens on. `key_id` gets the 32 octets that stand for the credential, for hail_backend_revoke() and the
 * others. `line` gets the text that the gateway is to be given, for its option `credential` or its `credential_file`: it is a
 * secret, and counts once HAIL_EVENT_DURABLE told the ticket. `ticket` as hail_backend_enrol().
 *
 * HAIL_ERR_INVALID: name, group or flags. HAIL_ERR_CONFIG: `url` cannot be used, or is NULL and the back end listens on no
 * hail:// address that a gateway could find.
 */
hail_status hail_backend_enrol_link(struct hail_backend *backend,
                                    const char *name,
                                    const char *group,
                                    uint32_t flags,
                                    const char *url,
                                    uint8_t *key_id,
                                    struct hail_buffer **line,
                                    uint64_t *ticket);

/**
 * Takes a gateway's enrolment back: its registration ends at once. `ticket` as hail_backend_enrol().
 *
 * HAIL_ERR_NOT_FOUND: no gateway is enrolled with this key.
 */
hail_status hail_backend_revoke(struct hail_backend *backend, const uint8_t *key_id, uint64_t *ticket);

/**
 * Takes a gateway off and bars it until hail_backend_allow(). `ticket` as hail_backend_enrol().
 *
 * HAIL_ERR_NOT_FOUND: no gateway is enrolled with this key.
 */
hail_status hail_backend_deregister(struct hail_backend *backend, const uint8_t *key_id, uint64_t *ticket);

/**
 * Lets a gateway that was taken off register again. `ticket` as hail_backend_enrol().
 *
 * HAIL_ERR_NOT_FOUND: no gateway is enrolled with this key.
 */
hail_status hail_backend_allow(struct hail_backend *backend, const uint8_t *key_id, uint64_t *ticket);

/**
 * Takes off a gateway that proved no key, by the HAIL_FIELD_GATEWAY of its events. It may register again.
 *
 * HAIL_ERR_NOT_FOUND: it is not registered now.
 */
hail_status hail_backend_disconnect(struct hail_backend *backend, uint64_t gateway);

/**
 * Adds a rule: a regex over octets by which gateways recognise an application; for one group, or for all when `group`
 * is NULL. `ticket` as hail_backend_enrol().
 *
 * HAIL_ERR_PATTERN: it is empty, over 1023 octets, or holds a NUL (write \x00). Whether it can be compiled each gateway
 * finds for itself: HAIL_EVENT_RULE_REJECTED.
 */
hail_status hail_backend_set_rule(struct hail_backend *backend,
                                  const char *group,
                                  uint32_t app,
                                  const uint8_t *pattern,
                                  size_t size,
                                  uint64_t *ticket);

/**
 * Removes a rule of a group, or of all when `group` is NULL; a NULL `pattern` removes every rule of the application.
 * `ticket` as hail_backend_enrol().
 *
 * HAIL_ERR_NOT_FOUND: there is no such rule.
 */
hail_status hail_backend_remove_rule(struct hail_backend *backend,
                                     const char *group,
                                     uint32_t app,
                                     const uint8_t *pattern,
                                     size_t size,
                                     uint64_t *ticket);

/**
 * What the back end holds, as a JSON list (docs/json.md). `what` is "gateways" (registered now), "enrolments" or "groups",
 * for which `group` is NULL; or "results", "rules" or "models" of a group, where for "rules" NULL means those of all.
 *
 * HAIL_ERR_NOT_FOUND: there is no such list.
 */
hail_status hail_backend_list(const struct hail_backend *backend,
                              const char *what,
                              const char *group,
                              struct hail_buffer **json);

/**
 * Reports that wait for the disk, in `count`.
 */
hail_status hail_backend_pending(const struct hail_backend *backend, size_t *count);

/**
 * The gateways that are registered now, as the HAIL_FIELD_GATEWAY of their events: up to `capacity` of them in
 * `gateways`, and how many there are in `count`, which may be more. A `capacity` of 0 only counts.
 */
hail_status hail_backend_gateways(const struct hail_backend *backend,
                                  uint64_t *gateways,
                                  size_t capacity,
                                  size_t *count);

/**
 * A counter by name, such as "registrations", or "link.sessions" for those of the link: docs/counters.md has them all.
 *
 * HAIL_ERR_NOT_FOUND: there is none by that name.
 */
hail_status hail_backend_counter(const struct hail_backend *backend,
                                 const char *name,
                                 uint64_t *value);

/**
 * Sets the parameters, 1 to 256 words, of a trained rule by which a group's gateways recognise an application. `ticket`
 * as hail_backend_enrol().
 *
 * HAIL_ERR_WORDS: there are none, or too many.
 */
hail_status hail_backend_set_parameters(struct hail_backend *backend,
                                        const char *group,
                                        uint32_t app,
                                        const uint32_t *words,
                                        size_t count,
                                        uint64_t *ticket);

/**
 * The parameters of a trained rule that a group's gateways are told: up to `capacity` words in `words`, and how many
 * there are in `count`. A `capacity` of 0 only counts.
 *
 * HAIL_ERR_NOT_FOUND: the group has none for this application.
 */
hail_status hail_backend_parameters(const struct hail_backend *backend,
                                    const char *group,
                                    uint32_t app,
                                    uint32_t *words,
                                    size_t capacity,
                                    size_t *count);

/**
 * Goes back to the parameters before those in use, and holds the application, so that training does not bring the same
 * ones back. `ticket` as hail_backend_enrol().
 *
 * HAIL_ERR_NOT_FOUND: there are none before, or the back end does not train.
 */
hail_status hail_backend_roll_back(struct hail_backend *backend,
                                   const char *group,
                                   uint32_t app,
                                   uint64_t *ticket);

/**
 * Stops training an application in a group by itself, or resumes it when `held` is 0. `ticket` as
 * hail_backend_enrol().
 *
 * HAIL_ERR_NOT_FOUND: there is no model of it, or the back end does not train.
 */
hail_status hail_backend_hold(struct hail_backend *backend,
                              const char *group,
                              uint32_t app,
                              int32_t held,
                              uint64_t *ticket);

/**
 * Hands in a model that a trainer of yours made, in words as docs/training.md lays them out. It is judged as one that is
 * trained here: HAIL_EVENT_TRAINED says how that ended, and if it was accepted gateways are told.
 *
 * HAIL_ERR_WORDS: it is no model. HAIL_ERR_NOT_FOUND: there are no samples to judge it by. HAIL_ERR_STATE: the one before
 * is not judged yet, or `train` is off.
 */
hail_status hail_backend_offer(struct hail_backend *backend,
                               const char *group,
                               uint32_t app,
                               const uint32_t *words,
                               size_t count);

/**
 * What a trainer of yours may learn an application from, as JSON: a list of objects with `app`, `source`, `weight` and
 * `features`. What judges a model is not among them.
 *
 * HAIL_ERR_STATE: `train` is off.
 */
hail_status hail_backend_samples(const struct hail_backend *backend,
                                 const char *group,
                                 uint32_t app,
                                 struct hail_buffer **json);

/**
 * Makes a device on a loop, by the options `credential` or `credential_file` and those of docs/options.md; with `store` its
 * outbox, and what it confirmed, outlast the process. It logs in from the next step on and stays there by itself:
 * HAIL_EVENT_LOGGED_IN, _REFUSED and _DOWN tell how that goes. `user` comes back with each of its events.
 *
 * HAIL_ERR_CONFIG: an option cannot be used. HAIL_ERR_STORE, _CORRUPT, _VERSION, _LOCKED: the store's file.
 */
hail_status hail_device_new(struct hail_loop *loop,
                            const struct hail_config *config,
                            void *user,
                            struct hail_device **device);

/**
 * Frees a device: its session ends without a word (hail_device_close() says one), its events are gone. What a later one is
 * to tell of is in its store.
 */
void hail_device_free(struct hail_device *device);

/**
 * Puts a message into the outbox, logged in or not. `to` is "user:NAME" or "app:NAME", up to 1,000 of them with commas.
 * `keep` is 1 for it to wait at the office for who is not there, else 0; `ttl_s` is after how many seconds it is stale, up
 * to 30 days, and 0 for a week; `content_type` is up to 128 characters, and NULL for "text/plain"; the body has up to
 * 65536 octets. `number`, unless NULL, gets what its events have as HAIL_FIELD_NUMBER: HAIL_EVENT_STORED, that it is durable
 * here and will go out once whatever happens, and nothing claims that earlier; then one of HAIL_EVENT_ACCEPTED, _REJECTED
 * and _EXPIRED.
 *
 * HAIL_ERR_INVALID: one of them cannot be. HAIL_ERR_FULL: `max_outbox` or `max_outbox_octets` wait already;
 * HAIL_EVENT_WRITABLE says when there is room.
 */
hail_status hail_device_put(struct hail_device *device,
                            const char *to,
                            int32_t keep,
                            uint32_t ttl_s,
                            const char *content_type,
                            const uint8_t *body,
                            size_t size,
                            uint64_t *number);

/**
 * The same, and blocks until the message is durable here, or `limit_ms` milliseconds are over; a limit of -1 is none. A disk
 * that works takes one write. While one does not, the loop goes on turning, and its events wait to be pulled; a signal ends
 * nothing.
 *
 * HAIL_ERR_TIMEOUT: the limit passed, or too many events wait. The message is in the outbox all the same and `number` is
 * written: do not put it again, HAIL_EVENT_STORED will tell.
 */
hail_status hail_device_put_wait(struct hail_device *device,
                                 const char *to,
                                 int32_t keep,
                                 uint32_t ttl_s,
                                 const char *content_type,
                                 const uint8_t *body,
                                 size_t size,
                                 int32_t limit_ms,
                                 uint64_t *number);

/**
 * A message that HAIL_EVENT_MESSAGE showed is dealt with: HAIL_EVENT_CONFIRMED says, once that is durable, that it is never
 * shown again. Until then a crash shows it again.
 *
 * HAIL_ERR_NOT_FOUND: no message by that HAIL_FIELD_SEQUENCE waits to be confirmed.
 */
hail_status hail_device_confirm(struct hail_device *device,
                                uint64_t sequence);

/**
 * Follows an application, by its name, or no more when `on` is 0. `request`, unless NULL, gets what the HAIL_EVENT_ANSWER has
 * as HAIL_FIELD_REQUEST.
 *
 * HAIL_ERR_INVALID: that is no name, or `on` is neither 0 nor 1. HAIL_ERR_STATE: not logged in. HAIL_ERR_FULL: too much waits
 * to be said.
 */
hail_status hail_device_subscribe(struct hail_device *device,
                                  const char *app,
                                  int32_t on,
                                  uint64_t *request);

/**
 * Has messages of this user kept while none of the user's devices is there, or not when `keep` is 0. `request` and failures
 * as hail_device_subscribe().
 */
hail_status hail_device_keep(struct hail_device *device,
                             int32_t keep,
                             uint64_t *request);

/**
 * Asks where users are, by their names, up to 1,000 with commas: a HAIL_EVENT_PRESENCE each. `request` and failures as
 * hail_device_subscribe().
 */
hail_status hail_device_query(struct hail_device *device,
                              const char *users,
                              uint64_t *request);

/**
 * Says goodbye in the next step, and stays away: what waits in the outbox waits for the next device on the same store.
 */
hail_status hail_device_close(struct hail_device *device);

/**
 * The platform is about to sleep, for `for_s` seconds at the most, or 0 for 15 hours, which is as much. The office is told, keeps
 * the session and sends nothing. HAIL_EVENT_SUSPENDED comes within eight seconds: from then on the device sends nothing and has
 * nothing due, so that the timeout of a loop with nothing else is -1. Its HAIL_FIELD_TOLD is 0 when there is no session, or the
 * office did not answer. A message that is put meanwhile is made durable, and goes out after hail_device_resume().
 *
 * HAIL_ERR_STATE: it is suspended already.
 */
hail_status hail_device_suspend(struct hail_device *device,
                                uint32_t for_s);

/**
 * The platform is awake, or does not sleep after all: the device speaks in the next step, and what waited comes. A session that is
 * lost meanwhile is got again. It changes nothing of a device that is not suspended.
 */
hail_status hail_device_resume(struct hail_device *device);

/**
 * On a network where what is sent is paid for `on` is 1, else 0; the option `metered` says it for the beginning. While it is 1 the
 * device looks for no longer interval and keeps to the one that it found, or to `keepalive_s`; it sends again what is not
 * acknowledged after a second at the soonest, not after a fifth of one, and one piece at a time, not two. Say it before
 * hail_loop_network_changed().
 */
hail_status hail_device_set_metered(struct hail_device *device,
                                    int32_t on);

/**
 * 1 while there is a session, else 0; a negative status on failure.
 */
int32_t hail_device_is_up(const struct hail_device *device);

/**
 * Messages in the outbox, in `count`: put, and not yet told to be accepted, rejected or expired.
 */
hail_status hail_device_pending(const struct hail_device *device, size_t *count);

/**
 * A counter by name, such as "shown", or "link.sessions" for those of the link: docs/counters.md has them all.
 *
 * HAIL_ERR_NOT_FOUND: there is none by that name.
 */
hail_status hail_device_counter(const struct hail_device *device,
                                const char *name,
                                uint64_t *value);

/**
 * Makes a post office on a loop: opens its store and listens. `user` comes back with each of its events. With the option
 * `roles` as `broker` it holds sessions for the hub that `hub` names: it has no store and no accounts, and what adds or takes
 * back something answers HAIL_ERR_INVALID. As `balancer` it tells devices at which broker to log in: it listens for those who
 * ask at hail+ask:// in the place of devices, and has no accounts either.
 *
 * HAIL_ERR_CONFIG: an option cannot be used. HAIL_ERR_LISTEN: an address is taken. HAIL_ERR_STORE, _CORRUPT, _VERSION,
 * _LOCKED: the store's file.
 */
hail_status hail_office_new(struct hail_loop *loop,
                            const struct hail_config *config,
                            void *user,
                            struct hail_office **office);

/**
 * Frees a post office: its sockets are closed, its events are gone, and what was not yet told to be durable may be lost.
 */
void hail_office_free(struct hail_office *office);

/**
 * Where it listens: address and port, in the order of the options `listen_devices`, `listen_apps` and `listen_inner`, one after
 * the other, from 0. The text lives as long as the office.
 *
 * HAIL_ERR_NOT_FOUND: it listens on fewer.
 */
hail_status hail_office_address(const struct hail_office *office,
                                size_t index,
                                const char **address,
                                uint16_t *port);

/**
 * The 32 octets that devices know the office by, the ?key= of its hail:// URL, or of a balancer's hail+ask:// URL. They are kept
 * in the store.
 *
 * HAIL_ERR_STATE: a broker that its hub has not told them yet.
 */
hail_status hail_office_key(const struct hail_office *office,
                            uint8_t *key);

/**
 * Adds a user: a name of 1 to 64 visible ASCII characters without `,`, `*` and `:`. `ticket`, unless NULL, gets a number:
 * HAIL_EVENT_DURABLE with this ticket says that it is done and kept, HAIL_EVENT_FAILED with it that it cannot be, for
 * HAIL_ERR_STATE when there is a user by that name.
 *
 * HAIL_ERR_INVALID: the name.
 */
hail_status hail_office_add_user(struct hail_office *office,
                                 const char *name,
                                 uint64_t *ticket);

/**
 * Adds a device of a user. `device` is 16 octets of yours that name it, such as a UUID; `expires` is in Unix seconds, and 0 for
 * never. `url` is where the device finds the office, such as "hail://office.example:7700", to which the key is added, or the whole URL of its balancer; NULL
 * is for the first hail:// address that it listens on. `session_id` gets the 16 octets that name the credential, for
 * hail_office_revoke_device(). `line` gets the text that the device is to be given, for its option `credential` or its
 * `credential_file`: it is a secret, and counts once HAIL_EVENT_DURABLE told the ticket. `ticket` and its failures as
 * hail_office_add_user(); HAIL_ERR_NOT_FOUND when there is no such user.
 *
 * HAIL_ERR_INVALID: the name. HAIL_ERR_CONFIG: `url` cannot be used, or is NULL and the office listens on no hail:// address
 * that a device could find.
 */
hail_status hail_office_add_device(struct hail_office *office,
                                   const char *user,
                                   const uint8_t *device,
                                   uint64_t expires,
                                   const char *url,
                                   uint8_t *session_id,
                                   struct hail_buffer **line,
                                   uint64_t *ticket);

/**
 * Takes a credential back, by its 16 octets: nobody logs in by it any more, and who did is sent away. What waits for the
 * device is kept. `ticket` as hail_office_add_user(), with HAIL_ERR_NOT_FOUND when there is no such credential.
 */
hail_status hail_office_revoke_device(struct hail_office *office,
                                      const uint8_t *session_id,
                                      uint64_t *ticket);

/**
 * Answers HAIL_EVENT_AUTHENTICATE, by its ticket: the credential holds, it is of this user, whom the office need not know yet,
 * and of this device, which 16 octets name that no other of the user has. `secret` is the credential's, 32 octets, `expires`
 * in Unix seconds, 0 for never: until then, at most seven days, a session that was lost is resumed without another question.
 * An answer that comes after ten seconds is too late, and the device asks again.
 *
 * HAIL_ERR_INVALID: the name. HAIL_ERR_FULL: too many wait for the disk; leave it, the device asks again.
 */
hail_status hail_office_admit(struct hail_office *office,
                              uint64_t ticket,
                              const char *user,
                              const uint8_t *device,
                              const uint8_t *secret,
                              uint64_t expires);

/**
 * Answers HAIL_EVENT_AUTHENTICATE, by its ticket: the credential does not hold.
 */
hail_status hail_office_refuse(struct hail_office *office, uint64_t ticket);

/**
 * Adds an application, by a name as of a user. `rights` are those of HAIL_RIGHT_... that it has, added up. `secret` gets the
 * text that it logs in by, which is kept as a hash only; it counts once HAIL_EVENT_DURABLE told the ticket.
 *
 * HAIL_ERR_INVALID: name or rights. HAIL_ERR_STATE: there is one by that name. HAIL_ERR_FULL: there are too many.
 */
hail_status hail_office_add_app(struct hail_office *office,
                                const char *name,
                                uint32_t rights,
                                struct hail_buffer **secret,
                                uint64_t *ticket);

/**
 * Tells devices to log in elsewhere and refuses new ones, before the office is stopped; or no more, when `on` is 0.
 */
hail_status hail_office_drain(struct hail_office *office,
                              int32_t on);

/**
 * A counter by name, such as "held", or "link.sessions", "hub.delivered", "apps.requests", "brokers.registered" and "rooms.sent"
 * for those of its parts; of a broker "link.sessions" and "broker.lost", of a balancer "asks.given" and "brokers.enlisted": docs/counters.md has them all.
 *
 * HAIL_ERR_NOT_FOUND: there is none by that name.
 */
hail_status hail_office_counter(const struct hail_office *office,
                                const char *name,
                                uint64_t *value);

/**
 * Makes an application on a loop, by the options `app`, `app_secret` or `app_secret_file`, and `office`. It connects from the
 * next step on and stays there by itself: HAIL_EVENT_LOGGED_IN, _REFUSED and _DOWN tell how that goes. `user` comes back with
 * each of its events.
 *
 * HAIL_ERR_CONFIG: an option cannot be used.
 */
hail_status hail_app_new(struct hail_loop *loop,
                         const struct hail_config *config,
                         void *user,
                         struct hail_app **app);

/**
 * Frees an application: its connection is closed, its events are gone, and so is what hail_app_pending() counts.
 */
void hail_app_free(struct hail_app *app);

/**
 * Sends a message, connected or not; it is said, over lost connections, until the office answers. `id`, unless NULL, has room
 * for HAIL_ID_SIZE octets and gets its id as text: HAIL_EVENT_ANSWERED with it as HAIL_FIELD_ID tells, with code 200, that
 * the office has it, or why not. There is no store on this side: what is not answered when the process ends is to be sent
 * again, with the same id.
 *
 * HAIL_ERR_INVALID: the message cannot be. HAIL_ERR_STATE: one by this id is not answered yet. HAIL_ERR_FULL: too many are
 * not; HAIL_EVENT_WRITABLE says when there is room.
 */
hail_status hail_app_send(struct hail_app *app,
                          const struct hail_message *message,
                          char *id);

/**
 * Asks where users are, by their names, up to 1,000 with commas: a HAIL_EVENT_PRESENCE each, and then HAIL_EVENT_ANSWERED. `id`
 * as in hail_app_send().
 *
 * HAIL_ERR_INVALID: the names. HAIL_ERR_FULL: as hail_app_send().
 */
hail_status hail_app_query(struct hail_app *app,
                           const char *users,
                           char *id);

/**
 * Withdraws a message: HAIL_EVENT_ANSWERED with its id, after that of the message itself, tells with code 200 that it reached
 * nobody, with 409 that somebody has it, with 404 that it is gone.
 *
 * HAIL_ERR_INVALID: that is no id. HAIL_ERR_STATE: it is being withdrawn. HAIL_ERR_FULL: as hail_app_send().
 */
hail_status hail_app_cancel(struct hail_app *app,
                            const char *id);

/**
 * A message that HAIL_EVENT_MESSAGE showed is dealt with: it is not shown again once the office has heard of it, which is when
 * hail_app_pending() no longer counts it.
 *
 * HAIL_ERR_NOT_FOUND: no message by that HAIL_FIELD_SEQUENCE waits to be confirmed.
 */
hail_status hail_app_confirm(struct hail_app *app,
                             uint64_t sequence);

/**
 * Requests and confirmations that the office has not answered, in `count`: at 0 nothing is lost by hail_app_free().
 */
hail_status hail_app_pending(const struct hail_app *app,
                             size_t *count);

/**
 * A counter by name, such as "logins": docs/counters.md has them all.
 *
 * HAIL_ERR_NOT_FOUND: there is none by that name.
 */
hail_status hail_app_counter(const struct hail_app *app, const char *name, uint64_t *value);

/**
 * Makes a private key and a self-signed certificate that never expires: PEM text for the option `identity_pem`, or to be
 * written to a file of mode 0600 for `identity_file`. `name` has 1 to 64 characters; a host name or address is also
 * what the certificate vouches for. `key_id` gets 32 octets: what a back end enrols, and what a gateway pins.
 *
 * HAIL_ERR_INVALID: the name; `detail`, unless NULL, says why.
 */
hail_status hail_identity_generate(const char *name,
                                   struct hail_buffer **pem,
                                   uint8_t *key_id,
                                   struct hail_buffer **detail);

/**
 * The 32 octets that name the key of a certificate: SHA-256 over its SubjectPublicKeyInfo. The first certificate of the
 * PEM text counts; a private key may stand beside it.
 *
 * HAIL_ERR_CONFIG: there is no certificate that can be read; `detail`, unless NULL, says why.
 */
hail_status hail_identity_key_id(const uint8_t *pem,
                                 size_t size,
                                 uint8_t *key_id,
                                 struct hail_buffer **detail);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HAILPOST_H */
