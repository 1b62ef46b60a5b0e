/* A back end and gateways of one group, on one loop or on several. */
#ifndef TWO_ENDS_H
#define TWO_ENDS_H

#include "check.h"

/* Who a gateway is: key and certificate on TLS, the line of its enrolment on hail://. */
typedef struct {
    hail_buffer *pem;
    hail_buffer *line;
    uint8_t id[32];
    char hex[65];
} identity;

static inline identity identity_new(const char *name)
{
    identity made = {NULL, NULL, {0}, {0}};
    uint8_t again[32];
    CHECK_IS(hail_identity_generate(name, &made.pem, made.id, NULL), HAIL_OK);
    CHECK_IS(hail_identity_key_id(hail_buffer_data(made.pem), hail_buffer_size(made.pem), again, NULL), HAIL_OK);
    CHECK(memcmp(made.id, again, sizeof again) == 0);
    for (size_t at = 0; at < sizeof made.id; at++)
        snprintf(made.hex + 2 * at, 3, "%02x", made.id[at]);
    return made;
}

/* One that is enrolled for hail://, where the back end listens. */
static inline identity identity_linked(hail_loop *loop, hail_backend *backend, const char *name, uint32_t flags,
                                       uint64_t *ticket)
{
    identity made = {NULL, NULL, {0}, {0}};
    CHECK_OK(loop, hail_backend_enrol_link(backend, name, "home", flags, NULL, made.id, &made.line, ticket));
    for (size_t at = 0; at < sizeof made.id; at++)
        snprintf(made.hex + 2 * at, 3, "%02x", made.id[at]);
    return made;
}

static inline void identity_set(hail_config *config, const identity *who)
{
    if (who->line != NULL) {
        const uint8_t *line = hail_buffer_data(who->line);
        CHECK_IS(hail_config_set_bytes(config, "credential", line, hail_buffer_size(who->line)), HAIL_OK);
        return;
    }
    const uint8_t *pem = hail_buffer_data(who->pem);
    CHECK_IS(hail_config_set_bytes(config, "identity_pem", pem, hail_buffer_size(who->pem)), HAIL_OK);
}

/* `who` is NULL on transports that prove nothing; `store` is NULL for memory. Answers with the port. */
static inline hail_backend *backend_on(hail_loop *loop, const char *listen, const identity *who, const char *store,
                                       uint16_t *port)
{
    hail_backend *backend = NULL;
    const char *address = NULL;
    hail_config *config =
        check_config((const char *[]){"listen", listen, "agreement", "1", NULL});
    if (who != NULL)
        identity_set(config, who);
    else if (strncmp(listen, "hail", 4) != 0)
        CHECK_IS(hail_config_set(config, "open_group", "home"), HAIL_OK);
    if (store != NULL)
        CHECK_IS(hail_config_set(config, "store", store), HAIL_OK);
    CHECK_OK(loop, hail_backend_new(loop, config, NULL, &backend));
    hail_config_free(config);
    CHECK_OK(loop, hail_backend_address(backend, 0, &address, port));
    CHECK(strcmp(address, "127.0.0.1") == 0 && *port != 0);
    CHECK_IS(hail_backend_address(backend, 1, &address, port), HAIL_ERR_NOT_FOUND);
    return backend;
}

/* `url` is empty where the line of the enrolment has it. */
static inline hail_gateway *gateway_to(hail_loop *loop, const char *url, const identity *who)
{
    hail_gateway *gateway = NULL;
    hail_config *config = check_config((const char *[]){"backend", url, "heartbeat_ms", "200",
                                                        "backoff_ms", "20", "backoff_max_ms", "100", NULL});
    if (who != NULL)
        identity_set(config, who);
    CHECK_OK(loop, hail_gateway_new(loop, config, NULL, &gateway));
    hail_config_free(config);
    return gateway;
}

#endif
