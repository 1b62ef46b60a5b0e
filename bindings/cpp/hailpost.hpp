// Hailpost for C++17: the C interface with ownership and exceptions, and nothing else. The contract is at the top of
// hailpost.h; an object here is the C object that get() gives.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef HAILPOST_HPP
#define HAILPOST_HPP

#include <hailpost.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hail {

/// A call that failed: its status, and what failed, on what, and what to do.
class error : public std::runtime_error {
public:
    error(hail_status status, const std::string &detail)
        : std::runtime_error(detail.empty() ? hail_status_text(status) : detail), status_(status) {}
    hail_status status() const noexcept { return status_; }
    /// Whether the same call may succeed later.
    bool is_passing() const noexcept { return hail_status_retry(status_) == HAIL_RETRY_LATER; }

private:
    hail_status status_;
};

namespace detail {
template <class T, void (*Free)(T *)> struct freer {
    void operator()(T *object) const noexcept { Free(object); }
};
template <class T, void (*Free)(T *)> using owned = std::unique_ptr<T, freer<T, Free>>;
} // namespace detail

/// Octets that the library gave.
class buffer {
public:
    explicit buffer(hail_buffer *taken = nullptr) : object_(taken) {}
    const std::uint8_t *data() const noexcept { return hail_buffer_data(object_.get()); }
    std::size_t size() const noexcept { return hail_buffer_size(object_.get()); }
    std::string_view text() const noexcept {
        return size() == 0 ? std::string_view() : std::string_view(reinterpret_cast<const char *>(data()), size());
    }

private:
    detail::owned<hail_buffer, hail_buffer_free> object_;
};

/// A set of options: config{{"backend", "tls://..."}, {"heartbeat_ms", "3000"}}.
class config {
public:
    config() {
        hail_config *made = nullptr;
        if (hail_status status = hail_config_new(&made))
            throw error(status, "");
        object_.reset(made);
    }
    config(std::initializer_list<std::pair<std::string, std::string>> options) : config() {
        for (const auto &[name, value] : options)
            set(name, value);
    }
    config &set(const std::string &name, const std::string &value) {
        check(hail_config_set(get(), name.c_str(), value.c_str()));
        return *this;
    }
    config &set_bytes(const std::string &name, const void *octets, std::size_t size) {
        check(hail_config_set_bytes(get(), name.c_str(), static_cast<const std::uint8_t *>(octets), size));
        return *this;
    }
    config &load(std::int32_t role, const std::string &path) {
        check(hail_config_load(get(), role, path.c_str()));
        return *this;
    }
    std::string dump(std::int32_t role) const {
        hail_buffer *toml = nullptr;
        check(hail_config_dump(get(), role, &toml));
        return std::string(buffer(toml).text());
    }
    hail_config *get() const noexcept { return object_.get(); }

private:
    void check(hail_status status) const {
        if (status != HAIL_OK)
            throw error(status, hail_config_detail(get()));
    }
    detail::owned<hail_config, hail_config_free> object_;
};

/// What happened. It lives until the next event is pulled or the loop is turned, and so does what it points to.
class event {
public:
    explicit event(const hail_event *shown) : object_(shown) {}
    explicit operator bool() const noexcept { return object_ != nullptr; }
    std::uint32_t kind() const noexcept { return hail_event_kind(object_); }
    const char *name() const noexcept { return hail_event_name(kind()); }
    const void *source() const noexcept { return hail_event_source(object_); }
    void *user() const noexcept { return hail_event_user(object_); }
    bool has(std::uint32_t field) const noexcept { return hail_event_has(object_, field) != 0; }
    std::uint64_t u64(std::uint32_t field) const noexcept { return hail_event_u64(object_, field); }
    hail_status status() const noexcept { return static_cast<hail_status>(u64(HAIL_FIELD_STATUS)); }
    std::string_view text(std::uint32_t field) const noexcept {
        const char *found = hail_event_text(object_, field);
        return found == nullptr ? std::string_view() : std::string_view(found);
    }
    std::pair<const std::uint8_t *, std::size_t> bytes(std::uint32_t field) const noexcept {
        std::size_t size = 0;
        const std::uint8_t *found = hail_event_bytes(object_, field, &size);
        return {found, size};
    }
    /// The two ends of a flow or result; none for an event about something else.
    std::optional<hail_record> record() const noexcept {
        hail_record found{};
        found.size = sizeof found;
        return hail_event_record(object_, &found) == HAIL_OK ? std::optional(found) : std::nullopt;
    }
    const hail_event *get() const noexcept { return object_; }

private:
    const hail_event *object_;
};

/// Owns sockets and timers. It must stay where it is while objects are on it: keep it, or a pointer to it.
class loop {
public:
    loop() {
        hail_loop *made = nullptr;
        if (hail_status status = hail_loop_new(&made))
            throw error(status, "");
        object_.reset(made);
    }
    loop(const loop &) = delete;
    loop &operator=(const loop &) = delete;
    int fd() const { return hail_loop_fd(get()); }
    int timeout_ms() const { return hail_loop_timeout_ms(get()); }
    void step() { check(hail_loop_step(get())); }
    /// False when the limit passed without an event.
    bool run(std::int32_t limit_ms = -1) {
        hail_status status = hail_loop_run(get(), limit_ms);
        if (status != HAIL_ERR_TIMEOUT)
            check(status);
        return status == HAIL_OK;
    }
    /// From any thread.
    void wake() const { hail_loop_wake(get()); }
    event next_event() { return event(hail_loop_next_event(get())); }
    std::uint64_t counter(const char *name) const {
        std::uint64_t value = 0;
        check(hail_loop_counter(get(), name, &value));
        return value;
    }
    void network_changed() { check(hail_loop_network_changed(get())); }
    void set_log(std::int32_t level, hail_log_fn callback, void *user) {
        check(hail_loop_set_log(get(), level, callback, user));
    }
    void check(hail_status status) const {
        if (status != HAIL_OK)
            throw error(status, hail_loop_detail(get()));
    }
    hail_loop *get() const noexcept { return object_.get(); }

private:
    detail::owned<hail_loop, hail_loop_free> object_;
};

namespace detail {
inline const std::uint8_t *octets(std::string_view text) {
    return reinterpret_cast<const std::uint8_t *>(text.data());
}

/// What every object on a loop has.
template <class T, void (*Free)(T *), hail_status (*New)(hail_loop *, const hail_config *, void *, T **)> class on_loop {
public:
    T *get() const noexcept { return object_.get(); }

protected:
    on_loop(loop &on, const config &options, void *user) : loop_(&on) {
        T *made = nullptr;
        on.check(New(on.get(), options.get(), user, &made));
        object_.reset(made);
    }
    void check(hail_status status) const { loop_->check(status); }

private:
    loop *loop_;
    owned<T, Free> object_;
};
} // namespace detail

/// A record of two ends, as addresses in text.
inline hail_record record(std::uint32_t app, const std::string &local, std::uint16_t local_port,
                          const std::string &remote, std::uint16_t remote_port, std::uint8_t protocol) {
    hail_record made{};
    made.size = sizeof made;
    made.app = app;
    made.local_port = local_port;
    made.remote_port = remote_port;
    made.protocol = protocol;
    for (auto [text, octets] : {std::pair(&local, made.local_address), std::pair(&remote, made.remote_address)})
        if (hail_status status = hail_address_parse(text->c_str(), octets))
            throw error(status, *text + " is no address");
    return made;
}

/// A gateway's end, and its recognition of flows.
class gateway : public detail::on_loop<hail_gateway, hail_gateway_free, hail_gateway_new> {
public:
    gateway(loop &on, const config &options, void *user = nullptr) : on_loop(on, options, user) {}
    std::int32_t state() const noexcept { return hail_gateway_state(get()); }
    void report(const hail_record &record) { check(hail_gateway_report(get(), &record)); }
    void report_features(std::uint32_t app, const std::vector<std::uint32_t> &words) {
        check(hail_gateway_report_features(get(), app, words.data(), words.size()));
    }
    /// What others recognised at a remote end.
    std::optional<std::uint32_t> result(const std::uint8_t *address, std::uint16_t port, std::uint8_t protocol) const {
        std::uint32_t app = 0;
        hail_status status = hail_gateway_result(get(), address, port, protocol, &app);
        if (status == HAIL_ERR_NOT_FOUND)
            return std::nullopt;
        check(status);
        return app;
    }
    std::size_t pending() const {
        std::size_t count = 0;
        check(hail_gateway_pending(get(), &count));
        return count;
    }
    /// "results" or "rules" that the back end told, as a JSON list.
    std::string list(const char *what) const {
        hail_buffer *json = nullptr;
        check(hail_gateway_list(get(), what, &json));
        return std::string(buffer(json).text());
    }
    void leave() { check(hail_gateway_leave(get())); }
    void join() { check(hail_gateway_join(get())); }
    void set_heartbeat_ms(std::uint32_t pause) { check(hail_gateway_set_heartbeat_ms(get(), pause)); }
    /// The status of a frame: one that is no IP packet is nothing exceptional.
    hail_status feed(std::uint32_t link_type, std::uint64_t time_us, const std::uint8_t *frame, std::size_t size) {
        return hail_gateway_feed(get(), link_type, time_us, frame, size);
    }
    void finish() { check(hail_gateway_finish(get())); }
    std::uint64_t counter(const char *name) const {
        std::uint64_t value = 0;
        check(hail_gateway_counter(get(), name, &value));
        return value;
    }
};

/// A recogniser without a back end.
class recognizer : public detail::on_loop<hail_recognizer, hail_recognizer_free, hail_recognizer_new> {
public:
    recognizer(loop &on, const config &options, void *user = nullptr) : on_loop(on, options, user) {}
    /// The status of a frame: one that is no IP packet is nothing exceptional.
    hail_status feed(std::uint32_t link_type, std::uint64_t time_us, const std::uint8_t *frame, std::size_t size) {
        return hail_recognizer_feed(get(), link_type, time_us, frame, size);
    }
    void finish() { check(hail_recognizer_finish(get())); }
    std::uint64_t counter(const char *name) const {
        std::uint64_t value = 0;
        check(hail_recognizer_counter(get(), name, &value));
        return value;
    }
};

/// The 32 octets that name a key.
using key_id = std::array<std::uint8_t, 32>;

/// A back end.
class backend : public detail::on_loop<hail_backend, hail_backend_free, hail_backend_new> {
public:
    backend(loop &on, const config &options, void *user = nullptr) : on_loop(on, options, user) {}
    /// Address and port that it listens on.
    std::pair<std::string, std::uint16_t> address(std::size_t index = 0) const {
        const char *text = nullptr;
        std::uint16_t port = 0;
        check(hail_backend_address(get(), index, &text, &port));
        return {text, port};
    }
    std::uint64_t enrol(const key_id &key, const std::string &name, const std::string &group, std::uint32_t flags = 0) {
        std::uint64_t ticket = 0;
        check(hail_backend_enrol(get(), key.data(), name.c_str(), group.c_str(), flags, &ticket));
        return ticket;
    }
    /// What a gateway on hail:// is handed, and what takes it back.
    struct enrolled {
        buffer line;
        key_id key{};
        std::uint64_t ticket = 0;
    };
    /// `url` is empty where the gateway finds the back end at its first hail:// address.
    enrolled enrol_link(const std::string &name, const std::string &group, const std::string &url = {},
                        std::uint32_t flags = 0) {
        enrolled made;
        hail_buffer *line = nullptr;
        check(hail_backend_enrol_link(get(), name.c_str(), group.c_str(), flags, url.empty() ? nullptr : url.c_str(),
                                      made.key.data(), &line, &made.ticket));
        made.line = buffer(line);
        return made;
    }
    std::uint64_t revoke(const key_id &key) { return by_key(hail_backend_revoke, key); }
    std::uint64_t deregister(const key_id &key) { return by_key(hail_backend_deregister, key); }
    std::uint64_t allow(const key_id &key) { return by_key(hail_backend_allow, key); }
    void disconnect(std::uint64_t gateway) { check(hail_backend_disconnect(get(), gateway)); }
    /// For all groups when `group` is empty.
    std::uint64_t set_rule(const std::string &group, std::uint32_t app, std::string_view pattern) {
        std::uint64_t ticket = 0;
        check(hail_backend_set_rule(get(), name(group), app, detail::octets(pattern), pattern.size(), &ticket));
        return ticket;
    }
    /// Every rule of the application when `pattern` is empty.
    std::uint64_t remove_rule(const std::string &group, std::uint32_t app, std::string_view pattern = {}) {
        std::uint64_t ticket = 0;
        const std::uint8_t *text = pattern.empty() ? nullptr : detail::octets(pattern);
        check(hail_backend_remove_rule(get(), name(group), app, text, pattern.size(), &ticket));
        return ticket;
    }
    std::uint64_t set_parameters(const std::string &group, std::uint32_t app, const std::vector<std::uint32_t> &words) {
        std::uint64_t ticket = 0;
        check(hail_backend_set_parameters(get(), group.c_str(), app, words.data(), words.size(), &ticket));
        return ticket;
    }
    /// Nothing when the group has none for the application.
    std::vector<std::uint32_t> parameters(const std::string &group, std::uint32_t app) const {
        std::size_t count = 0;
        hail_status status = hail_backend_parameters(get(), group.c_str(), app, nullptr, 0, &count);
        if (status == HAIL_ERR_NOT_FOUND)
            return {};
        check(status);
        std::vector<std::uint32_t> words(count);
        check(hail_backend_parameters(get(), group.c_str(), app, words.data(), words.size(), &count));
        return words;
    }
    std::uint64_t roll_back(const std::string &group, std::uint32_t app) {
        std::uint64_t ticket = 0;
        check(hail_backend_roll_back(get(), group.c_str(), app, &ticket));
        return ticket;
    }
    std::uint64_t hold(const std::string &group, std::uint32_t app, bool held = true) {
        std::uint64_t ticket = 0;
        check(hail_backend_hold(get(), group.c_str(), app, held, &ticket));
        return ticket;
    }
    void offer(const std::string &group, std::uint32_t app, const std::vector<std::uint32_t> &words) {
        check(hail_backend_offer(get(), group.c_str(), app, words.data(), words.size()));
    }
    /// A JSON list.
    std::string samples(const std::string &group, std::uint32_t app) const {
        hail_buffer *json = nullptr;
        check(hail_backend_samples(get(), group.c_str(), app, &json));
        return std::string(buffer(json).text());
    }
    /// A JSON list, as hail_backend_list() names them; `group` is empty where that takes NULL.
    std::string list(const char *what, const std::string &group = {}) const {
        hail_buffer *json = nullptr;
        check(hail_backend_list(get(), what, name(group), &json));
        return std::string(buffer(json).text());
    }
    std::size_t pending() const {
        std::size_t count = 0;
        check(hail_backend_pending(get(), &count));
        return count;
    }
    std::vector<std::uint64_t> gateways() const {
        std::size_t count = 0;
        check(hail_backend_gateways(get(), nullptr, 0, &count));
        std::vector<std::uint64_t> found(count);
        check(hail_backend_gateways(get(), found.data(), found.size(), &count));
        return found;
    }
    std::uint64_t counter(const char *name) const {
        std::uint64_t value = 0;
        check(hail_backend_counter(get(), name, &value));
        return value;
    }

private:
    static const char *name(const std::string &group) { return group.empty() ? nullptr : group.c_str(); }
    std::uint64_t by_key(hail_status (*call)(hail_backend *, const std::uint8_t *, std::uint64_t *), const key_id &key) {
        std::uint64_t ticket = 0;
        check(call(get(), key.data(), &ticket));
        return ticket;
    }
};

/// A device of a post office.
class device : public detail::on_loop<hail_device, hail_device_free, hail_device_new> {
public:
    device(loop &on, const config &options, void *user = nullptr) : on_loop(on, options, user) {}
    /// The number that the message's events have; `ttl_s` 0 is a week.
    std::uint64_t put(const std::string &to, std::string_view body, bool keep = true, std::uint32_t ttl_s = 0,
                      const char *content_type = nullptr) {
        std::uint64_t number = 0;
        check(hail_device_put(get(), to.c_str(), keep, ttl_s, content_type, detail::octets(body), body.size(), &number));
        return number;
    }
    /// Blocks until the message is durable here. The second is false when the limit passed first: it is in the outbox all the
    /// same.
    std::pair<std::uint64_t, bool> put_wait(const std::string &to, std::string_view body, std::int32_t limit_ms = -1,
                                            bool keep = true, std::uint32_t ttl_s = 0,
                                            const char *content_type = nullptr) {
        std::uint64_t number = 0;
        hail_status status = hail_device_put_wait(get(), to.c_str(), keep, ttl_s, content_type, detail::octets(body),
                                                  body.size(), limit_ms, &number);
        if (status != HAIL_ERR_TIMEOUT)
            check(status);
        return {number, status == HAIL_OK};
    }
    void confirm(std::uint64_t sequence) { check(hail_device_confirm(get(), sequence)); }
    std::uint64_t subscribe(const std::string &app, bool on = true) {
        std::uint64_t request = 0;
        check(hail_device_subscribe(get(), app.c_str(), on, &request));
        return request;
    }
    std::uint64_t keep(bool kept = true) {
        std::uint64_t request = 0;
        check(hail_device_keep(get(), kept, &request));
        return request;
    }
    /// Users by name, with commas between.
    std::uint64_t query(const std::string &users) {
        std::uint64_t request = 0;
        check(hail_device_query(get(), users.c_str(), &request));
        return request;
    }
    void suspend(std::uint32_t for_s = 0) { check(hail_device_suspend(get(), for_s)); }
    void resume() { check(hail_device_resume(get())); }
    void set_metered(bool on) { check(hail_device_set_metered(get(), on)); }
    void close() { check(hail_device_close(get())); }
    bool is_up() const noexcept { return hail_device_is_up(get()) == 1; }
    std::size_t pending() const {
        std::size_t count = 0;
        check(hail_device_pending(get(), &count));
        return count;
    }
    std::uint64_t counter(const char *name) const {
        std::uint64_t value = 0;
        check(hail_device_counter(get(), name, &value));
        return value;
    }
};

/// A post office.
class office : public detail::on_loop<hail_office, hail_office_free, hail_office_new> {
public:
    /// What a device is handed, and what takes it back.
    struct enrolled {
        buffer line;
        std::array<std::uint8_t, 16> session_id{};
        std::uint64_t ticket = 0;
    };
    office(loop &on, const config &options, void *user = nullptr) : on_loop(on, options, user) {}
    /// Address and port that it listens on, for devices and then for applications.
    std::pair<std::string, std::uint16_t> address(std::size_t index = 0) const {
        const char *text = nullptr;
        std::uint16_t port = 0;
        check(hail_office_address(get(), index, &text, &port));
        return {text, port};
    }
    key_id key() const {
        key_id octets{};
        check(hail_office_key(get(), octets.data()));
        return octets;
    }
    std::uint64_t add_user(const std::string &name) {
        std::uint64_t ticket = 0;
        check(hail_office_add_user(get(), name.c_str(), &ticket));
        return ticket;
    }
    /// `url` is empty where the device finds the office at its first hail:// address; `expires` in Unix seconds, 0 for never.
    enrolled add_device(const std::string &user, const std::array<std::uint8_t, 16> &device, const std::string &url = {},
                        std::uint64_t expires = 0) {
        enrolled made;
        hail_buffer *line = nullptr;
        check(hail_office_add_device(get(), user.c_str(), device.data(), expires, url.empty() ? nullptr : url.c_str(),
                                     made.session_id.data(), &line, &made.ticket));
        made.line = buffer(line);
        return made;
    }
    std::uint64_t revoke_device(const std::array<std::uint8_t, 16> &session_id) {
        std::uint64_t ticket = 0;
        check(hail_office_revoke_device(get(), session_id.data(), &ticket));
        return ticket;
    }
    /// Answers HAIL_EVENT_AUTHENTICATE.
    void admit(std::uint64_t ticket, const std::string &user, const std::array<std::uint8_t, 16> &device,
               const std::array<std::uint8_t, 32> &secret, std::uint64_t expires = 0) {
        check(hail_office_admit(get(), ticket, user.c_str(), device.data(), secret.data(), expires));
    }
    void refuse(std::uint64_t ticket) { check(hail_office_refuse(get(), ticket)); }
    /// The application's secret, and the ticket.
    std::pair<buffer, std::uint64_t> add_app(const std::string &name, std::uint32_t rights) {
        std::uint64_t ticket = 0;
        hail_buffer *secret = nullptr;
        check(hail_office_add_app(get(), name.c_str(), rights, &secret, &ticket));
        return {buffer(secret), ticket};
    }
    void drain(bool on = true) { check(hail_office_drain(get(), on)); }
    std::uint64_t counter(const char *name) const {
        std::uint64_t value = 0;
        check(hail_office_counter(get(), name, &value));
        return value;
    }
};

/// An application of a post office.
class app : public detail::on_loop<hail_app, hail_app_free, hail_app_new> {
public:
    app(loop &on, const config &options, void *user = nullptr) : on_loop(on, options, user) {}
    /// The message's id.
    std::string send(const hail_message &message) {
        char id[HAIL_ID_SIZE] = "";
        check(hail_app_send(get(), &message, id));
        return id;
    }
    std::string send(const std::string &to, std::string_view body, std::uint32_t flags = HAIL_MESSAGE_KEEP) {
        hail_message message{};
        message.size = sizeof message;
        message.flags = flags;
        message.to = to.c_str();
        message.body = detail::octets(body);
        message.body_size = body.size();
        return send(message);
    }
    /// Users by name, with commas between. The request's id.
    std::string query(const std::string &users) {
        char id[HAIL_ID_SIZE] = "";
        check(hail_app_query(get(), users.c_str(), id));
        return id;
    }
    void cancel(const std::string &id) { check(hail_app_cancel(get(), id.c_str())); }
    void confirm(std::uint64_t sequence) { check(hail_app_confirm(get(), sequence)); }
    std::size_t pending() const {
        std::size_t count = 0;
        check(hail_app_pending(get(), &count));
        return count;
    }
    std::uint64_t counter(const char *name) const {
        std::uint64_t value = 0;
        check(hail_app_counter(get(), name, &value));
        return value;
    }
};

/// A private key with its certificate, as PEM text, and the key's name.
struct identity {
    explicit identity(const std::string &name) {
        hail_buffer *text = nullptr, *why = nullptr;
        hail_status status = hail_identity_generate(name.c_str(), &text, id.data(), &why);
        pem = buffer(text);
        if (status != HAIL_OK)
            throw error(status, std::string(buffer(why).text()));
    }
    /// 64 hexadecimal digits, as in ?pin=.
    std::string pin() const {
        std::string text;
        for (std::uint8_t octet : id)
            for (int digit : {octet >> 4, octet & 15})
                text += "0123456789abcdef"[digit];
        return text;
    }
    buffer pem;
    key_id id{};
};

/// A message as JSON.
inline std::string decode(const std::string &kind, const std::uint8_t *octets, std::size_t size) {
    hail_buffer *json = nullptr, *why = nullptr;
    hail_status status = hail_decode(kind.c_str(), octets, size, &json, &why);
    buffer answer(json), reason(why);
    if (status != HAIL_OK)
        throw error(status, std::string(reason.text()));
    return std::string(answer.text());
}

/// The octets of a message that is JSON.
inline buffer encode(const std::string &kind, const std::string &json) {
    hail_buffer *octets = nullptr, *why = nullptr;
    hail_status status = hail_encode(kind.c_str(), json.c_str(), &octets, &why);
    buffer answer(octets), reason(why);
    if (status != HAIL_OK)
        throw error(status, std::string(reason.text()));
    return answer;
}

} // namespace hail

#endif // HAILPOST_HPP
