//! Rules, checked and compiled to be matched all at once.

use std::fmt;

use regex_syntax::hir::{Hir, Look};

use super::{
    AppId,
    automaton::Program,
    condition::{ConditionError, Conditions, SURE, Side, Transport, View},
};

/// The longest rule text that the gateway protocol carries, in octets.
pub const MAX_RULE: usize = 1023;

/// One identification rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What a match says the flow is.
    pub app: AppId,
    /// Conditions and pattern, as `docs/rules.md` describes them; at most [`MAX_RULE`] octets.
    pub text: String,
}

/// What a rule set may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rules; at most 65,534 whatever is set.
    pub rules: usize,
    /// Octets that one rule's program may take.
    pub rule_memory: usize,
    /// Octets that all programs may take.
    pub memory: usize,
    /// Octets that each recogniser may use for automaton states.
    pub automaton_memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { rules: 4096, rule_memory: 128 << 10, memory: 4 << 20, automaton_memory: 4 << 20 }
    }
}

/// Why a rule set was refused, and which rule is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// The rule's place in the list, from 0.
    pub index: usize,
    /// The application it belongs to.
    pub app: AppId,
    /// What is wrong.
    pub fault: RuleFault,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// More than [`MAX_RULE`] octets of text.
    #[error("the rule is longer than {MAX_RULE} octets")]
    TooLong,
    /// The leading comment group.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// Not a regular expression as understood here.
    #[error("the pattern is invalid: {0}")]
    Syntax(String),
    /// Look-around other than `^` and `$`.
    #[error("the pattern looks around: only ^ and $ are allowed")]
    LookAround,
    /// It matches the empty text, so every flow.
    #[error("the pattern matches the empty text")]
    Empty,
    /// More than [`Limits::rule_memory`].
    #[error("the pattern needs more memory than a rule may take")]
    TooLarge,
    /// More than [`Limits::rules`].
    #[error("there are more rules than allowed")]
    TooMany,
    /// With this rule the set needs more than [`Limits::memory`].
    #[error("the rules together need more memory than allowed")]
    SetTooLarge,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} (AppID {}): {}", self.index + 1, self.app.0, self.fault)
    }
}

impl std::error::Error for RuleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// Rules compiled together; immutable, to be shared by recognisers.
#[derive(Debug)]
pub struct RuleSet {
    /// By rank: the greatest priority first, then in the order given.
    rules: Vec<Compiled>,
    lanes: [Option<Program>; LANES],
    limits: Limits,
}

#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) app: AppId,
    pub(crate) index: usize,
    pub(crate) conditions: Conditions,
}

/// A kind of text with an automaton of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Patterns that begin with `^`, on a TCP stream. They die early.
    TcpAnchored,
    /// All other patterns on a TCP stream.
    TcpFloating,
    UdpAnchored,
    UdpFloating,
    /// What is asked of server names and of hosts alike.
    Name,
    Sni,
    Host,
    Agent,
    Alpn,
    Hello,
    Certificates,
    Dns,
}

pub(crate) const LANES: usize = 12;

impl Lane {
    const ALL: [Lane; LANES] = [
        Lane::TcpAnchored,
        Lane::TcpFloating,
        Lane::UdpAnchored,
        Lane::UdpFloating,
        Lane::Name,
        Lane::Sni,
        Lane::Host,
        Lane::Agent,
        Lane::Alpn,
        Lane::Hello,
        Lane::Certificates,
        Lane::Dns,
    ];
}

impl RuleSet {
    /// Compiles `rules`. An error names the rule that is to blame.
    ///
    /// # Errors
    /// [`RuleError`], the first one.
    pub fn compile(rules: &[Rule], limits: Limits) -> Result<RuleSet, RuleError> {
        let (set, mut errors) = RuleSet::build(rules, limits, 1);
        match errors.pop() {
            None => Ok(set),
            Some(error) => Err(error),
        }
    }

    /// Compiles those of `rules` that can be used, and says what is wrong with each of the others. For rules from
    /// elsewhere, of which one must not take the others with it.
    pub fn compile_valid(rules: &[Rule], limits: Limits) -> (RuleSet, Vec<RuleError>) {
        RuleSet::build(rules, limits, usize::MAX)
    }

    /// Compiles until `most` errors were found.
    fn build(rules: &[Rule], limits: Limits, most: usize) -> (RuleSet, Vec<RuleError>) {
        let mut errors = Vec::new();
        let mut checked: Vec<(Compiled, Vec<Lane>)> = Vec::new();
        let mut memory = 0;
        for (index, rule) in rules.iter().enumerate() {
            if errors.len() >= most {
                break;
            }
            let room = limits.memory - memory;
            let full = checked.len() >= limits.rules.min(usize::from(u16::MAX) - 1);
            let result = if full { Err(RuleFault::TooMany) } else { check(&rule.text, &limits, room) };
            match result {
                Ok((conditions, lanes, octets)) => {
                    memory += octets;
                    checked.push((Compiled { app: rule.app, index, conditions }, lanes));
                }
                Err(fault) => errors.push(RuleError { index, app: rule.app, fault }),
            }
        }
        checked.sort_by_key(|(rule, _)| (u8::MAX - rule.conditions.priority, rule.index));
        let mut set = RuleSet { rules: Vec::new(), lanes: Default::default(), limits };
        for lane in Lane::ALL {
            // Read again, lane by lane: a parsed pattern takes many times what it compiles to, and all of them at once
            // would leave a small device with a heap of holes.
            let members: Vec<(u16, Hir)> = (0..)
                .zip(&checked)
                .filter(|(_, (_, lanes))| lanes.contains(&lane))
                .map(|(rank, (rule, _))| (rank, read(&rules[rule.index].text).expect("it was read before").1))
                .collect();
            if members.is_empty() {
                continue;
            }
            let members: Vec<(u16, &Hir)> = members.iter().map(|(rank, hir)| (*rank, hir)).collect();
            let anchored = matches!(lane, Lane::TcpAnchored | Lane::UdpAnchored);
            // Without a limit: each pattern was within its own and their sum within that of the set.
            let program = Program::new(&members, anchored, None);
            set.lanes[lane as usize] = Some(program.expect("patterns that compile alone compile together"));
        }
        set.rules = checked.into_iter().map(|(rule, _)| rule).collect();
        (set, errors)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Octets of memory that the compiled rules take. What recognisers build while they run comes to this; it is
    /// bounded by [`Limits::automaton_memory`].
    pub fn memory(&self) -> usize {
        let programs: usize = self.lanes.iter().flatten().map(Program::memory).sum();
        size_of::<RuleSet>() + programs + self.rules.capacity() * size_of::<Compiled>()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn program(&self, lane: Lane) -> Option<&Program> {
        self.lanes[lane as usize].as_ref()
    }

    pub(crate) fn programs(&self) -> &[Option<Program>; LANES] {
        &self.lanes
    }

    pub(crate) fn rule(&self, rank: u16) -> &Compiled {
        &self.rules[usize::from(rank)]
    }
}

impl Compiled {
    /// Whether a match settles the flow.
    pub(crate) fn is_sure(&self) -> bool {
        self.conditions.priority >= SURE
    }

    /// Whether everything but the pattern and `times` holds.
    pub(crate) fn applies(&self, at: &Context<'_>) -> bool {
        let wants = &self.conditions;
        wants.transport.is_none_or(|transport| transport == at.transport)
            && wants.from.is_none_or(|from| from == at.from)
            && (wants.ports.is_empty()
                || wants.ports.iter().any(|range| at.ports.iter().any(|port| range.contains(port))))
            && wants
                .len
                .as_ref()
                .is_none_or(|len| u16::try_from(at.payload_len).is_ok_and(|l| len.contains(&l)))
            && wants.nth.as_ref().is_none_or(|nth| nth.contains(&at.nth))
            && wants.size.is_none_or(|field| field.holds(at.payload, at.payload_len))
    }
}

/// Where octets that matched were found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) transport: Transport,
    pub(crate) from: Side,
    pub(crate) ports: [u16; 2],
    pub(crate) payload: &'a [u8],
    pub(crate) payload_len: u32,
    /// The flow's payload packets so far, this one included.
    pub(crate) nth: u8,
}

/// Octets that a program takes however many patterns are in it.
const PROGRAM_SHARED: usize = 1024;

/// A rule's conditions, the programs it goes into and the octets it takes in them, at most `room`.
fn check(text: &str, limits: &Limits, room: usize) -> Result<(Conditions, Vec<Lane>, usize), RuleFault> {
    let (conditions, hir) = read(text)?;
    let looks = hir.properties().look_set();
    if looks.iter().any(|look| !matches!(look, Look::Start | Look::End)) {
        return Err(RuleFault::LookAround);
    }
    if hir.properties().minimum_len() == Some(0) {
        return Err(RuleFault::Empty);
    }
    let program = Program::new(&[(0, &hir)], true, Some(limits.rule_memory));
    // A program has some kilobytes that all its patterns share.
    let own = program.map_err(|_| RuleFault::TooLarge)?.memory().saturating_sub(PROGRAM_SHARED);
    let lanes = lanes(&conditions, &hir);
    let octets = own * lanes.len();
    if octets > room {
        return Err(RuleFault::SetTooLarge);
    }
    Ok((conditions, lanes, octets))
}

/// A rule's conditions and its pattern.
fn read(text: &str) -> Result<(Conditions, Hir), RuleFault> {
    if text.len() > MAX_RULE {
        return Err(RuleFault::TooLong);
    }
    let (conditions, pattern) = Conditions::split(text)?;
    let hir = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .dot_matches_new_line(true)
        .nest_limit(64)
        .build()
        .parse(pattern)
        .map_err(|error| RuleFault::Syntax(one_line(&error)))?;
    Ok((conditions, hir))
}

/// Without the drawing of the pattern that the parser adds over several lines.
fn one_line(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => {
            format!("{} at octet {}", error.kind(), error.span().start.offset)
        }
        regex_syntax::Error::Translate(error) => {
            format!("{} at octet {}", error.kind(), error.span().start.offset)
        }
        other => other.to_string().lines().last().unwrap_or_default().to_owned(),
    }
}

fn lanes(conditions: &Conditions, hir: &Hir) -> Vec<Lane> {
    let anchored = hir.properties().look_set_prefix().contains(Look::Start);
    let (tcp, udp) = match conditions.transport {
        None => (true, true),
        Some(transport) => (transport == Transport::Tcp, transport == Transport::Udp),
    };
    match conditions.view {
        View::Raw => {
            let tcp_lane = if anchored { Lane::TcpAnchored } else { Lane::TcpFloating };
            let udp_lane = if anchored { Lane::UdpAnchored } else { Lane::UdpFloating };
            [(tcp, tcp_lane), (udp, udp_lane)]
                .into_iter()
                .filter(|(on, _)| *on)
                .map(|(_, lane)| lane)
                .collect()
        }
        View::Name => vec![Lane::Name],
        View::Sni => vec![Lane::Sni],
        View::Host => vec![Lane::Host],
        View::Agent => vec![Lane::Agent],
        View::Alpn => vec![Lane::Alpn],
        View::Hello => vec![Lane::Hello],
        View::Certificates => vec![Lane::Certificates],
        View::Dns => vec![Lane::Dns],
    }
}
