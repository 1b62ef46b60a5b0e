//! What a hub wants done, and what it tells.

use super::*;

/// An answer to who gave a message, or asked for something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// 200, or the code of an error (SPEC.md 6.3).
    pub code: u16,
    /// What became of the message.
    pub state: Option<State>,
}

/// What the hub wants done.
#[derive(Debug)]
pub enum HubOutput {
    /// Make this durable, then say so.
    Store(Batch),
    /// Ask the store, then say what it answered.
    Fetch(Fetch),
    /// Say this to who sits there.
    Send {
        /// Where.
        seat: Seat,
        /// Whose inbox it is about.
        inbox: Inbox,
        /// What.
        frame: Frame,
    },
    /// To an application: what became of a request.
    Answered {
        /// Where.
        seat: Seat,
        /// The request's.
        id: String,
        /// The answer.
        answer: Answer,
    },
    /// To an application: where users are.
    Whereabouts {
        /// Where.
        seat: Seat,
        /// The request's.
        id: String,
        /// In the order asked.
        users: Vec<Whereabouts>,
    },
    /// Hand this to another room.
    Relay {
        /// The link to it.
        seat: Seat,
        /// What.
        relayed: Box<Relayed>,
    },
    /// What a room handed over with [`Hub::take_relayed`] is durable, or it cannot be taken. Only of what the room keeps.
    Taken {
        /// The link that it came on.
        seat: Seat,
        /// As that room calls it.
        sequence: u64,
        /// 429 and 507: it, and what came behind it on this link, is to be handed over again; anything else settles it.
        code: u16,
    },
    /// Ask another room where its users are: [`Hub::found_away`] is to say, be it that nobody knows.
    AskRoom {
        /// Which.
        room: Inbox,
        /// The link to it.
        seat: Seat,
        /// The question's.
        ticket: u64,
        /// As they are called there.
        users: Vec<String>,
    },
    /// To a room that asked with [`Hub::query_of_room`]: where users are. Nobody is named when it cannot be told.
    ToldRoom {
        /// The link that it asked on.
        seat: Seat,
        /// The question's.
        correlation: u64,
        /// As they are called here.
        users: Vec<Whereabouts>,
    },
    /// The credential behind a session id, or none: what [`Hub::authenticate`] asked.
    Authenticated {
        /// The question's.
        ticket: u64,
        /// None when it is unknown, revoked or expired.
        credential: Option<Credential>,
    },
    /// A credential holds no more: whoever sits there on it is to go, and so is what was given out on it. Said again at
    /// each start for as long as something given out could be good.
    Revoked {
        /// Whose.
        inbox: Inbox,
        /// What has this epoch, or a later one, is good.
        epoch: u32,
        /// Where it sits now.
        seat: Option<Seat>,
    },
    /// What [`Hub::list`] asked for.
    Listed {
        /// The request's.
        ticket: u64,
        /// The page.
        listed: Listed,
    },
    /// Something to know.
    Event(HubEvent),
}

/// Something to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HubEvent {
    /// What an operator asked for is done and durable, or was refused.
    Done {
        /// The request's.
        ticket: u64,
        /// Why it was refused.
        result: Result<(), Fault>,
    },
    /// Does this session id hold? [`Hub::vouch`] or [`Hub::turn_away`] answers.
    Authenticate {
        /// The question's.
        ticket: u64,
        /// What it is about.
        session: SessionId,
    },
    /// A queue went over its quota, or its device was silent for too long: it is emptied, nothing is kept for it, and its owner
    /// will be told how much it missed.
    Stale {
        /// Whose.
        inbox: Inbox,
        /// Messages gone.
        missed: u32,
    },
}
