from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, final
from typing_extensions import Self, TypeAlias

from ._events import Event, Flow, Message, Recognised
from ._types import (
    Address,
    AppEnrolment,
    DeviceEnrolment,
    Enrolment,
    GatewayEnrolment,
    GatewayInfo,
    GroupInfo,
    Model,
    OfficeAddresses,
    Record,
    Rule,
    Sample,
)

_StrPath: TypeAlias = str | PathLike[str]
_T = TypeVar("_T", covariant=True)

__all__ = [
    "CODECS",
    "EVENTS",
    "FEATURE_COUNT",
    "FEATURE_SET",
    "OPTIONS",
    "STATUSES",
    "__version__",
    "App",
    "Backend",
    "Device",
    "EventIterator",
    "Gateway",
    "Identity",
    "Loop",
    "Office",
    "Recognizer",
    "decode",
    "encode",
]

__version__: Final[str]
STATUSES: Final[list[tuple[str, int, str, str, str]]]
EVENTS: Final[list[tuple[str, str, list[tuple[str, str]]]]]
OPTIONS: Final[list[tuple[str, str, str, str, str]]]
CODECS: Final[list[str]]
FEATURE_SET: Final[int]
FEATURE_COUNT: Final[int]

def decode(kind: str, octets: bytes) -> dict[str, Any]:
    """One message as a dictionary. MalformedError says at which octet and why."""

def encode(kind: str, message: Mapping[str, Any]) -> bytes:
    """The octets of such a dictionary. InvalidError says which member is wrong, and what is wanted there."""

@final
class EventIterator(Generic[_T]):
    """Events one after the other."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> _T: ...

@final
class Loop:
    """A loop that several objects share: one descriptor, one timeout, one step for all of them.

    Work is done while somebody waits: in next_event() or events() of the loop or of an object on it, or in step().
    """

    def __new__(cls) -> Self: ...
    def fileno(self) -> int:
        """The one descriptor to wait on: readable when step() has something to do."""
    def timeout(self) -> float | None:
        """How many seconds to wait at most before step(); None for as long as it takes."""
    def step(self) -> None:
        """Does what there is to do, without waiting."""
    def wake(self) -> None:
        """Makes the descriptor readable: whoever waits does a step."""
    def network_changed(self) -> None:
        """The network is another, or back: names are looked up afresh, and gateways try again without waiting."""
    def next_event(self, timeout: float | None = None) -> tuple[App | Backend | Device | Gateway | Office, Event] | None:
        """The next event of any object on the loop, as (object, event). None when there was none for timeout seconds."""
    def events(self, timeout: float | None = None) -> EventIterator[tuple[App | Backend | Device | Gateway | Office, Event]]:
        """The events of all objects on the loop, as (object, event), until there was none for timeout seconds."""
    def counters(self) -> dict[str, int]:
        """What the loop counted, by name."""

@final
class Identity:
    """A private key with its certificate: who a gateway or a backend is. Others know it by its key_id."""

    @staticmethod
    def generate(name: str) -> Identity:
        """A new key (ECDSA P-256) with a self-signed certificate that does not expire."""
    @staticmethod
    def load(path: _StrPath) -> Identity:
        """Reads a PEM file, which nobody but its owner may be able to read."""
    @staticmethod
    def from_pem(pem: str) -> Identity:
        """Reads PEM text."""
    def save(self, path: _StrPath) -> None:
        """Writes a new file (mode 0600). One that is there is never overwritten."""
    def to_pem(self) -> str:
        """Key and certificate as PEM text: a secret."""
    def certificate_pem(self) -> str:
        """The certificate as PEM text: public."""
    @property
    def key_id(self) -> str:
        """What others enrol or pin: SHA-256 over the public key, in hexadecimal digits."""

@final
class Backend:
    """A backend: admits gateways, keeps what they report, brings every gateway of a group to the same state, trains.

    `listen` is one URL or several: tls://, tcp:// or udp://, where port 0 takes a free one. `identity` is an Identity
    or the path of a file with one; tls:// needs it. `store` is the file that keeps everything; without it all is in
    memory. The other options have the names that configuration files use.
    """

    def __new__(
        cls,
        listen: str | Sequence[str] | None = None,
        *,
        identity: Identity | _StrPath | None = None,
        loop: Loop | None = None,
        family: int | None = None,
        heartbeat_ms: int | None = None,
        timeout_ms: int | None = None,
        sends: int | None = None,
        identity_file: _StrPath | None = None,
        identity_pem: bytes | str | None = None,
        max_results: int | None = None,
        result_ttl_ms: int | None = None,
        store: _StrPath | None = None,
        allow_networks: str | Sequence[str] | None = None,
        open_group: str | None = None,
        agreement: int | None = None,
        patience_ms: int | None = None,
        result_renew_ms: int | None = None,
        max_results_per_gateway: int | None = None,
        max_features_per_gateway: int | None = None,
        max_feature_apps_per_gateway: int | None = None,
        max_features: int | None = None,
        max_gateways: int | None = None,
        max_connections_per_address: int | None = None,
        max_pending: int | None = None,
        probe_addresses: bool | None = None,
        train: bool | None = None,
        train_pause_ms: int | None = ...,
    ) -> Self: ...
    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses that it listens on, in the order of `listen`."""
    @property
    def urls(self) -> tuple[str, ...]:
        """What a gateway connects to, in the order of `listen`.

        With its port, and for tls:// with the pin of its key, for hail:// with the key.
        """
    def set_rule(self, app_id: int, pattern: bytes | str, group: str | None = None) -> int:
        """Adds a rule for one group, or for all: flows that the pattern matches are of the application.

        Returns a ticket: Durable(ticket) says that it is on the disk. PatternError says what is wrong with the pattern.
        """
    def remove_rule(self, app_id: int, pattern: bytes | str | None = None, group: str | None = None) -> int:
        """Removes one pattern of an application, or all of them. Returns a ticket."""
    def enrol(self, key_id: str, name: str, group: str, trusted: bool = False) -> int:
        """Enrols a gateway by its key, or changes its enrolment; whether it is barred stays as it is.

        The word of a `trusted` one alone is enough for others to be told. Returns a ticket.
        """
    def enrol_link(
        self, name: str, group: str, trusted: bool = False, *, url: str | None = None
    ) -> GatewayEnrolment:
        """Enrols a gateway for hail://, by a credential that is drawn for it.

        Returns its key's name, the line that it is to be given for its option `credential`, a secret, and the ticket of
        the event Durable from which on that is good. `url` is where the gateway finds the backend, such as
        hail://backend.example:7704; without it that is where it listens.
        """
    def revoke(self, key_id: str) -> int:
        """Forgets a gateway's key: its registration ends at once. Returns a ticket."""
    def deregister(self, key_id: str) -> int:
        """Takes a gateway off and bars it until allow(). Returns a ticket."""
    def disconnect(self, gateway_id: int) -> None:
        """Takes off a gateway that proved no key, by the id of its registration. It may register again."""
    def allow(self, key_id: str) -> int:
        """Lets a gateway that was taken off register again. Returns a ticket."""
    def gateways(self) -> list[GatewayInfo]:
        """The gateways that are registered now."""
    def enrolments(self) -> list[Enrolment]:
        """The gateways that are enrolled."""
    def groups(self) -> list[GroupInfo]:
        """What each group holds; first, under the empty name, what all share."""
    def results(self, group: str) -> list[Record]:
        """The results that a group's gateways are told, oldest first."""
    def rules(self, group: str | None = None) -> list[Rule]:
        """The rules that a group's gateways are told, in order: those of all groups, then its own.

        Without a group: those of all.
        """
    def counters(self) -> dict[str, int]:
        """What was counted, by name."""
    def set_parameters(self, group: str, app_id: int, words: Sequence[int]) -> int:
        """Sets the parameters that a group's gateways recognise an application by, unjudged. Returns a ticket."""
    def parameters(self, group: str, app_id: int) -> tuple[int, ...] | None:
        """The parameters that hold for an application in a group; None when there are none."""
    def samples(self, group: str, app_id: int) -> list[Sample]:
        """What a trainer of one's own may learn an application from: features of it and of others, weighed.

        What judges a model is not among them.
        """
    def offer(self, group: str, app_id: int, words: Sequence[int]) -> None:
        """Hands in a model that a trainer of one's own made, in words as docs/training.md lays them out.

        It is judged as one trained here: Trained says how that ended, and if it was accepted gateways are told.
        """
    def models(self, group: str) -> list[Model]:
        """The models in use in a group, where the backend trains."""
    def roll_back(self, group: str, app_id: int) -> int:
        """Goes back to the model before the one in use, and holds the application.

        So that training does not bring the same model back. Returns a ticket. NotFoundError when there is none before.
        """
    def hold(self, group: str, app_id: int, held: bool = True) -> int:
        """Stops training an application in a group by itself, or with held=False resumes it.

        Returns a ticket. NotFoundError when there is no model of it.
        """
    @property
    def pending(self) -> int:
        """Reports that wait for the disk."""
    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None when there was none for timeout seconds, or when it was closed."""
    def events(self, timeout: float | None = None) -> EventIterator[Event]:
        """The events, until there was none for timeout seconds; without a timeout, until it is closed."""
    def fileno(self) -> int:
        """The descriptor of its loop."""
    @property
    def loop(self) -> Loop:
        """The loop that it is on."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def close(self) -> None:
        """Closes its connections and its store; what was asked of the store is written before."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Gateway:
    """A gateway: registers with a backend, keeps the link, learns results and rules, reports what it recognised.

    `backend` is a URL such as tls://backend.example:7700?pin=HEX. `identity` is an Identity or the path of a file with
    one. On hail:// `credential`, or the file `credential_file`, is the line of its enrolment, which names the backend
    too. `rules` is "home" (those that ship), "none", or the path of a TOML file. The other options have the
    names that configuration files use. It registers while somebody waits for its events.
    """

    def __new__(
        cls,
        backend: str | None = None,
        *,
        identity: Identity | _StrPath | None = None,
        loop: Loop | None = None,
        family: int | None = None,
        heartbeat_ms: int | None = None,
        timeout_ms: int | None = None,
        sends: int | None = None,
        identity_file: _StrPath | None = None,
        identity_pem: bytes | str | None = None,
        max_results: int | None = None,
        result_ttl_ms: int | None = None,
        ca_file: _StrPath | None = None,
        backoff_ms: int | None = None,
        backoff_max_ms: int | None = None,
        barred_retry_ms: int | None = None,
        enrol_token: bytes | str | None = None,
        enrol_token_file: _StrPath | None = None,
        max_rule_octets: int | None = None,
        max_reports: int | None = None,
        extensions: bool | None = None,
        rules: _StrPath | None = None,
        inside: str | Sequence[str] | None = None,
        max_automaton_octets: int | None = None,
        max_flows: int | None = None,
        credential_file: _StrPath | None = None,
        credential: bytes | str | None = None,
    ) -> Self: ...
    @property
    def state(self) -> str:
        """Where the association stands: down, connecting, registering, active or leaving."""
    def report(self, app_id: int, local: tuple[str, int], remote: tuple[str, int], protocol: int = 1) -> None:
        """Queues an identification: `remote`, a pair of address and port, is an end of the application.

        It is kept over lost links until Acknowledged says that it is durable at the backend. FullError at the bound:
        Writable says when there is room again.
        """
    def report_features(self, app_id: int, words: Sequence[int]) -> None:
        """Queues features of a flow for the backend's trainer: words as docs/training.md lays them out."""
    def feed(self, link_type: int, frame: bytes, time: float | None = None) -> None:
        """Takes in a frame. `link_type` is that of pcap files: 1 for Ethernet, 101 for bare IP.

        `time`, in seconds of any epoch, is when it was captured; without it that is now. MalformedError when it is no IP
        packet; nothing else changes.
        """
    def feed_pcap(self, path: _StrPath) -> int:
        """Takes in a capture file (pcap or pcapng) and ends its flows. Returns how many frames it had.

        Those that are not IP are passed over. MalformedError for a file that is damaged or cut; what stood before counts.
        FullError when more than 65,536 events wait: feed() a larger one frame by frame, and read the events in between.
        """
    def finish(self) -> None:
        """Ends every flow, for a capture that is over: each tells its Flow."""
    def set_heartbeat_ms(self, heartbeat_ms: int) -> None:
        """Changes the pause between heartbeats, at least 1 ms; holds from the next heartbeat on."""
    def result(self, remote: tuple[str, int], protocol: int = 1) -> int | None:
        """The application that others recognised at a remote end, a pair of address and port; None when nothing is known."""
    def leave(self) -> None:
        """Leaves the backend in order and stays away until join()."""
    def join(self) -> None:
        """Registers now, without waiting for the pause: after leave(), or after the operator allowed it again."""
    @property
    def pending(self) -> int:
        """Reports that wait for their acknowledgement."""
    def results(self) -> list[Record]:
        """The results that the backend told of, oldest first."""
    def rules(self) -> list[Rule]:
        """The rules that the backend told of, in order."""
    def counters(self) -> dict[str, int]:
        """What was counted, by name.

        What recognition counted has `recognition_` before it, the link on hail:// `link_`.
        """
    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None when there was none for timeout seconds, or when it was closed."""
    def events(self, timeout: float | None = None) -> EventIterator[Event]:
        """The events, until there was none for timeout seconds; without a timeout, until it is closed."""
    def fileno(self) -> int:
        """The descriptor of its loop."""
    @property
    def loop(self) -> Loop:
        """The loop that it is on."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def close(self) -> None:
        """Closes the link without a word; leave() says one."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Office:
    """A post office: keeps messages for people and devices that are not there, and hands them over when they log in.

    `listen_devices` is where devices log in (hail://, and tls:// where datagrams do not get through), `listen_apps`
    where applications connect (tls://, and tcp:// on loopback), one URL or several each; port 0 takes a free one.
    `identity` is an Identity or the path of a file with one; tls:// needs it. `store` is the file that keeps
    everything; without it all is in memory. With `roles="hub"` it is for brokers apart, which `listen_inner` and
    `brokers` are for; with `roles="broker"` it is one of these, of the office that `hub` names, and has no accounts.
    `room` and `rooms` are for several offices whose users write to each other.
    """

    def __new__(
        cls,
        listen_devices: str | Sequence[str] | None = None,
        listen_apps: str | Sequence[str] | None = None,
        *,
        identity: Identity | _StrPath | None = None,
        loop: Loop | None = None,
        identity_file: _StrPath | None = None,
        identity_pem: bytes | str | None = None,
        store: _StrPath | None = None,
        max_connections_per_address: int | None = None,
        roles: str | None = None,
        listen_inner: str | Sequence[str] | None = None,
        brokers: str | None = None,
        hub: str | Sequence[str] | None = None,
        max_brokers: int | None = None,
        balancer: str | Sequence[str] | None = None,
        public_address: str | None = None,
        broker_name: str | None = None,
        room: str | None = None,
        rooms: str | None = None,
        max_room_waiting: int | None = None,
        max_room_waiting_octets: int | None = None,
        max_sessions: int | None = None,
        max_apps_connections: int | None = None,
        max_waiting: int | None = None,
        max_waiting_octets: int | None = None,
        ask_authentication: bool | None = None,
        announce: bool | None = None,
    ) -> Self: ...
    @property
    def addresses(self) -> OfficeAddresses:
        """The addresses that it listens on: those for `devices`, for `apps` and for brokers (`inner`), each in the order
        of its option."""
    @property
    def urls(self) -> tuple[str, ...]:
        """What a device connects to, in the order of `listen_devices`.

        With its port and the office's key, or the pin of its certificate.
        """
    def add_user(self, name: str) -> int:
        """Adds a user.

        Returns a ticket: Durable(ticket) says that it is on the disk, Failed(ticket, error) that it cannot be.
        """
    def add_device(
        self, user: str, *, host: str | None = None, expires: int = 0, device: bytes | None = None
    ) -> DeviceEnrolment:
        """Adds a device of a user.

        Returns its enrolment, whose `line` is what the device is given, over a way that nobody else reads; it is good once
        Durable names its `ticket`.

        `host` is the name or address by which devices reach this machine, or the hail:// URL of a broker; without it that
        is the address that the office listens on. `expires`, in Unix seconds, is when the credential ends; 0 for never. `device` names the device
        itself, in 16 octets; without it they are drawn.
        """
    def revoke_device(self, session: str) -> int:
        """A credential holds no more, by the `session` of its enrolment: who uses it is sent away.

        Returns a ticket as add_user().
        """
    def admit(self, ticket: int, user: str, *, device: bytes, secret: bytes, expires: int = 0) -> None:
        """Answers Authenticate, by its ticket: the credential holds, it is of this user, whom the office need not know yet.

        And of this device, which 16 octets name that no other of the user has. `secret` is the credential's, in 32
        octets; until `expires`, in Unix seconds, at most seven days, a session that was lost is resumed without another
        question.
        """
    def refuse(self, ticket: int) -> None:
        """Answers Authenticate, by its ticket: the credential does not hold."""
    def add_app(self, name: str, rights: str | Sequence[str]) -> AppEnrolment:
        """Adds an application with rights: any of "send", "broadcast" and "query".

        Returns its enrolment, whose `secret` is what it says after AUTH; it is good once Durable names its `ticket`.
        """
    def backup(self, path: _StrPath) -> int:
        """Copies the store into a new file while the office serves: all that is acknowledged when it begins.

        Returns a ticket: Durable(ticket) says that the file is whole and on the disk, Failed(ticket, error) why there is
        none. Until then its name has `.part` after it. A file that is there is not written over.
        """
    def drain(self, draining: bool = True) -> None:
        """Tells devices to log in elsewhere, or later, and refuses new ones; with draining=False it is as before."""
    @property
    def sessions(self) -> int:
        """Sessions of devices that there are."""
    def counters(self) -> dict[str, int]:
        """What was counted, by name.

        What the hub, the applications' connections, the brokers', other rooms' and the link counted has `hub_`, `apps_`,
        `brokers_`, `rooms_` or `link_` before it, of a broker what it counted of its hub `broker_`, and of a balancer what it counted of those who
        ask `asks_`.
        """
    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None when there was none for timeout seconds, or when it was closed."""
    def events(self, timeout: float | None = None) -> EventIterator[Event]:
        """The events, until there was none for timeout seconds; without a timeout, until it is closed."""
    def fileno(self) -> int:
        """The descriptor of its loop."""
    @property
    def loop(self) -> Loop:
        """The loop that it is on."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def close(self) -> None:
        """Closes its connections and its store; what was asked of the store is written before."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Device:
    """A device of a post office: gets the messages of its user, and gives messages.

    Those wait in its outbox while there is no way to the office. `credential`, or the file `credential_file`, is the
    line of its enrolment; `office` is one URL or several if it is reached in other ways than that line says. `store` is
    the file that keeps outbox and confirmations; without it all is in memory. It logs in while somebody waits for its
    events.
    """

    def __new__(
        cls,
        office: str | Sequence[str] | None = None,
        *,
        loop: Loop | None = None,
        ca_file: _StrPath | None = None,
        store: _StrPath | None = None,
        credential_file: _StrPath | None = None,
        credential: bytes | str | None = None,
        keepalive_s: int | None = None,
        keepalive_max_s: int | None = None,
        metered: bool | None = None,
        max_outbox: int | None = None,
        max_outbox_octets: int | None = None,
    ) -> Self: ...
    @property
    def is_up(self) -> bool:
        """Whether it is logged in."""
    def put(
        self,
        to: str | Sequence[str],
        body: bytes | str,
        *,
        keep: bool = True,
        ttl: int = 604800,
        content_type: str = "text/plain",
    ) -> int:
        """Gives a message to `user:NAME`, `app:NAME`, or a sequence of up to 1,000 of them. Returns its number.

        Stored(number) says that it is durable here: then it goes out once, whatever happens. It ends in Accepted,
        Rejected or Expired. With keep=False it is for those who are there only. `ttl`, in seconds, is how long it is
        worth anything. FullError when the outbox is full: Writable says when there is room again.
        """
    def put_wait(
        self,
        to: str | Sequence[str],
        body: bytes | str,
        *,
        keep: bool = True,
        ttl: int = 604800,
        content_type: str = "text/plain",
        timeout: float | None = None,
    ) -> int:
        """As put(), and waits until the message is durable here: for `timeout` seconds, or for as long as it takes.

        The message is given once whatever this raises afterwards: the TimeoutError has its `number`, and Stored may
        still come. Events that come meanwhile wait for next_event(), Stored too.
        """
    def confirm(self, message: Message | int) -> None:
        """A message, or the one of a sequence number, is dealt with: Confirmed says that it is never shown again.

        NotFoundError when no such message was shown and waits for it.
        """
    def subscribe(self, app: str) -> int:
        """Follows an application, by its name. Returns the number of the request, which Answer names.

        StateError while the device is not logged in.
        """
    def unsubscribe(self, app: str) -> int:
        """Follows an application no more. Returns and raises as subscribe()."""
    def keep(self, keep: bool) -> int:
        """Has messages kept while none of the user's devices is there, or not. Returns and raises as subscribe()."""
    def query(self, users: str | Sequence[str]) -> int:
        """Asks where users are, by their names, up to 1,000: a Presence for each has the number that this returns.

        Raises as subscribe().
        """
    def suspend(self, seconds: int = 0) -> None:
        """The platform is about to sleep, for so many seconds at the most, or 0 for 15 hours, which is as much.

        The office is told, keeps the session and sends nothing. Suspended says within eight seconds that the device has nothing
        due any more. StateError when it is suspended already.
        """
    def resume(self) -> None:
        """The platform is awake: the device speaks, and what waited comes.

        It changes nothing of one that is not suspended.
        """
    def set_metered(self, metered: bool) -> None:
        """Whether what is sent on this network is paid for.

        While it is, the device looks for no longer interval between heartbeats, and sends nothing again before it must. Say it
        before network_changed().
        """
    @property
    def waiting(self) -> int:
        """Messages in the outbox."""
    def counters(self) -> dict[str, int]:
        """What was counted, by name.

        What the link counted has `link_` before it, what was counted of asking a balancer `balancer_`.
        """
    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None when there was none for timeout seconds, or when it was closed."""
    def events(self, timeout: float | None = None) -> EventIterator[Event]:
        """The events, until there was none for timeout seconds; without a timeout, until it is closed."""
    def fileno(self) -> int:
        """The descriptor of its loop."""
    @property
    def loop(self) -> Loop:
        """The loop that it is on."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def close(self) -> None:
        """Says goodbye to the office and closes the store; what was asked of the store is written before.

        What is in the outbox goes out when the device is opened again.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class App:
    """An application of a post office: sends to users, gets what they write to it, asks where they are.

    `office` is one URL or several: tls://, and tcp:// on loopback. `name` and `secret` are those of its enrolment; the
    secret can be in a file, `app_secret_file`. What it asks is said again after a lost connection, until it is answered.
    It connects while somebody waits for its events.
    """

    def __new__(
        cls,
        office: str | Sequence[str],
        name: str,
        secret: bytes | str | None = None,
        *,
        loop: Loop | None = None,
        ca_file: _StrPath | None = None,
        app_secret_file: _StrPath | None = None,
    ) -> Self: ...
    @property
    def is_up(self) -> bool:
        """Whether it is logged in."""
    def send(
        self,
        to: str | Sequence[str],
        body: bytes | str,
        *,
        keep: bool = True,
        ttl: int = 604800,
        content_type: str = "text/plain",
        kind: str | None = None,
        period: tuple[int, int] | None = None,
        id: str | None = None,
    ) -> str:
        """Sends a message to `user:NAME`, `app:NAME`, a sequence of up to 1,000 of them, or "*". Returns its id.

        Answered with that id says what became of it. "*" with kind="directed" is all who follow this application, with
        kind="broadcast" everybody. With keep=False it is for those who are there only. `ttl`, in seconds, is how long it
        is worth anything; a broadcast with a `period`, its first and its last Unix second, is for those who come
        meanwhile too. An `id` of one's own, up to 64 visible ASCII characters, is taken once, over restarts too.
        FullError when too much is not answered: Writable says when there is room again.
        """
    def query(self, users: str | Sequence[str]) -> str:
        """Asks where users are, by their names, up to 1,000.

        Returns an id: a Presence for each has it, and then Answered.
        """
    def cancel(self, id: str) -> None:
        """Withdraws a message by its id: a second Answered with that id says whether that was in time."""
    def confirm(self, message: Message | int) -> None:
        """A message, or the one of a sequence number, is dealt with.

        NotFoundError when no such message was shown and waits for it.
        """
    @property
    def pending(self) -> int:
        """Requests and confirmations that are not answered: with none, nothing is lost by close()."""
    def counters(self) -> dict[str, int]:
        """What was counted, by name."""
    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None when there was none for timeout seconds, or when it was closed."""
    def events(self, timeout: float | None = None) -> EventIterator[Event]:
        """The events, until there was none for timeout seconds; without a timeout, until it is closed."""
    def fileno(self) -> int:
        """The descriptor of its loop."""
    @property
    def loop(self) -> Loop:
        """The loop that it is on."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def close(self) -> None:
        """Ends the connection. What is not answered may be lost: it is nowhere else."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Recognizer:
    """Tells the flows in a sequence of frames apart and names their applications, without a backend.

    `rules` is "home" (those that ship) or the path of a TOML file.
    """

    def __new__(cls, rules: _StrPath | None = None, *, max_flows: int = 65536) -> Self: ...
    def feed(self, link_type: int, frame: bytes, time: float | None = None) -> list[Recognised | Flow]:
        """Takes in a frame; returns the flows that were recognised by it, and those that ended.

        `time` is in seconds of any epoch and must not go back; without it the frame is of the last one's time.
        MalformedError when it is no IP packet.
        """
    def feed_pcap(self, path: _StrPath) -> list[Flow]:
        """Takes in a capture file (pcap or pcapng); returns its flows. Frames that are not IP are passed over.

        MalformedError for a file that is damaged or cut; its `flows` are those of what stood before.
        """
    def finish(self) -> list[Flow]:
        """Ends every flow; returns them."""
    @property
    def names(self) -> dict[int, str]:
        """Applications by number, as the rules name them."""
    def counters(self) -> dict[str, int]:
        """What was counted, by name."""
