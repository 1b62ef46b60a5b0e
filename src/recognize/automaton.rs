//! Many patterns as one automaton that is made while it runs.
//!
//! A [`Program`] is the NFA of all patterns of one kind, made once and shared. A [`Cache`] holds the DFA states that
//! traffic has asked for; all caches of a recogniser draw on one [`Budget`]. Between two packets of a flow nothing is
//! kept but a [`StateId`]. When the budget runs low the caches are renewed and the states that open flows stand in are
//! carried over ([`Cache::adopt`]), so no flow loses its place.
//!
//! The work an octet costs is bounded by the program's size, and the work of one run by [`WORK`]: a run that would
//! need more, or more memory than the budget has, ends in the dead state and is counted.

use std::{collections::HashMap, sync::Arc};

use regex_automata::{
    nfa::thompson::{self, NFA, State},
    util::{look::Look, primitives::StateID},
};
use regex_syntax::hir::Hir;

/// NFA steps that one run may spend on making states.
const WORK: usize = 1 << 19;

const UNKNOWN: u32 = u32::MAX;
/// Set in a transition whose target reports matches.
const MATCH: u32 = 1 << 31;
/// Set in a transition whose target has no way on.
const LAST: u32 = 1 << 30;
const ROW: u32 = LAST - 1;

/// A place in an automaton.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateId(u32);

impl StateId {
    /// Nothing can match any more.
    pub(crate) const DEAD: StateId = StateId(LAST);
    /// The start; made with the cache.
    pub(crate) const START: StateId = StateId(0);

    pub(crate) fn is_dead(self) -> bool {
        self == StateId::DEAD
    }
}

/// The patterns of one kind, compiled.
#[derive(Debug)]
pub(crate) struct Program {
    nfa: NFA,
    start: StateID,
    classes: Box<[u8; 256]>,
    /// One octet of each class.
    samples: Vec<u8>,
    /// Which pattern an NFA state belongs to.
    owners: Vec<u32>,
    /// What each pattern is called outside.
    names: Vec<u16>,
}

impl Program {
    /// The NFA of `patterns`, each with the name that its matches are reported under. An anchored program looks for
    /// matches from the first octet only.
    pub(crate) fn new(
        patterns: &[(u16, &Hir)],
        anchored: bool,
        size_limit: Option<usize>,
    ) -> Result<Program, Box<thompson::BuildError>> {
        let config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(size_limit)
            .which_captures(thompson::WhichCaptures::None);
        let hirs: Vec<&Hir> = patterns.iter().map(|(_, hir)| *hir).collect();
        let nfa = thompson::Compiler::new().configure(config).build_many_from_hir(&hirs).map_err(Box::new)?;
        let mut classes = Box::new([0; 256]);
        let mut samples: Vec<u8> = Vec::new();
        for octet in 0..=255 {
            let class = nfa.byte_classes().get(octet);
            if usize::from(class) == samples.len() {
                samples.push(octet);
            }
            classes[usize::from(octet)] = class;
        }
        let start = if anchored { nfa.start_anchored() } else { nfa.start_unanchored() };
        let owners = owners(&nfa);
        let names = patterns.iter().map(|(name, _)| *name).collect();
        Ok(Program { nfa, start, classes, samples, owners, names })
    }

    /// Octets of memory.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Program>()
            + 256
            + self.nfa.memory_usage()
            + self.samples.capacity()
            + self.owners.capacity() * 4
            + self.names.capacity() * 2
    }

    /// Runs over `octets` from `state` and calls `report` with the name of each pattern whose end is met, possibly
    /// more than once. Returns where the run stopped.
    pub(crate) fn run(
        &self,
        cache: &mut Cache,
        budget: &mut Budget,
        state: StateId,
        octets: &[u8],
        mut report: impl FnMut(u16),
    ) -> StateId {
        if state.is_dead() {
            return state;
        }
        let mut row = state.0;
        let mut work = WORK;
        let mut rest = octets;
        while let Some((octet, after)) = rest.split_first() {
            rest = after;
            let class = usize::from(self.classes[usize::from(*octet)]);
            let mut next = cache.table[row as usize + class];
            if next == row {
                // Most octets lead nowhere; while the row stays the loads need not wait for each other.
                let targets = &cache.table[row as usize..row as usize + cache.stride];
                let leaves = |octet: &u8| targets[usize::from(self.classes[usize::from(*octet)])] != row;
                let stays = rest.iter().position(leaves).unwrap_or(rest.len());
                rest = &rest[stays..];
                continue;
            }
            if next >= LAST {
                if next == UNKNOWN {
                    match self.grow(cache, budget, row, class, &mut work) {
                        Some(grown) => next = grown,
                        None => {
                            budget.lost += 1;
                            return StateId::DEAD;
                        }
                    }
                }
                if next & MATCH != 0 {
                    for name in &cache.states[(next & ROW) as usize / cache.stride].matches {
                        report(*name);
                    }
                }
                if next & LAST != 0 {
                    return StateId::DEAD;
                }
            }
            row = next & ROW;
        }
        StateId(row)
    }

    /// Reports the patterns that match because the text ends here (`$`).
    pub(crate) fn end(&self, cache: &Cache, state: StateId, report: impl FnMut(u16)) {
        if !state.is_dead() {
            cache.states[state.0 as usize / cache.stride].at_end.iter().copied().for_each(report);
        }
    }

    /// Makes the state that `class` leads to from `row`; `None` when budget or work are used up.
    fn grow(
        &self,
        cache: &mut Cache,
        budget: &mut Budget,
        row: u32,
        class: usize,
        work: &mut usize,
    ) -> Option<u32> {
        let octet = self.samples[class];
        let from = Arc::clone(&cache.states[row as usize / cache.stride].set);
        cache.scratch.begin(self.nfa.states().len());
        for id in from.iter() {
            let next = match self.nfa.state(StateID::new_unchecked(*id as usize)) {
                State::ByteRange { trans } if trans.matches_byte(octet) => Some(trans.next),
                State::Sparse(sparse) => sparse.matches_byte(octet),
                State::Dense(dense) => dense.matches_byte(octet),
                _ => None,
            };
            if let Some(next) = next {
                self.close(&mut cache.scratch, next, false, false);
            }
        }
        *work = work.checked_sub(from.len() + cache.scratch.visited())?;
        let next = self.intern(cache, budget)?;
        cache.table[row as usize + class] = next;
        Some(next)
    }

    /// Adds to `scratch` what is reached from `id` without an octet.
    fn close(&self, scratch: &mut Scratch, id: StateID, at_start: bool, at_end: bool) {
        scratch.stack.push(id);
        while let Some(id) = scratch.stack.pop() {
            if !scratch.visit(id) {
                continue;
            }
            match self.nfa.state(id) {
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) | State::Match { .. } => {
                    scratch.set.push(id.as_u32());
                }
                State::Look { look, next } => match look {
                    Look::Start if at_start => scratch.stack.push(*next),
                    Look::End if at_end => scratch.stack.push(*next),
                    Look::End => scratch.set.push(id.as_u32()),
                    // The rule compiler lets no other look-around through.
                    _ => {}
                },
                State::Union { alternates } => scratch.stack.extend(alternates.iter().rev()),
                State::BinaryUnion { alt1, alt2 } => scratch.stack.extend([*alt2, *alt1]),
                State::Capture { next, .. } => scratch.stack.push(*next),
                State::Fail => {}
            }
        }
    }

    /// The transition to the state for the set in `scratch`, which is made when it is new.
    fn intern(&self, cache: &mut Cache, budget: &mut Budget) -> Option<u32> {
        // A pattern that has matched need not be followed further: one match is all that is asked.
        let mut matched: Vec<u32> = Vec::new();
        for id in &cache.scratch.set {
            if matches!(self.nfa.state(StateID::new_unchecked(*id as usize)), State::Match { .. }) {
                matched.push(self.owners[*id as usize]);
            }
        }
        let set = &mut cache.scratch.set;
        if !matched.is_empty() {
            set.retain(|id| {
                matches!(self.nfa.state(StateID::new_unchecked(*id as usize)), State::Match { .. })
                    || !matched.contains(&self.owners[*id as usize])
            });
        }
        if set.is_empty() {
            return Some(LAST);
        }
        set.sort_unstable();
        if let Some(known) = cache.index.get(&set[..]) {
            return Some(*known);
        }
        let set: Arc<[u32]> = Arc::from(&set[..]);
        let mut matches: Vec<u16> = matched.iter().map(|pattern| self.names[*pattern as usize]).collect();
        matches.sort_unstable();
        matches.dedup();
        let at_end = self.at_end(cache, &set);
        let target = cache.insert(budget, Arc::clone(&set), matches.into(), at_end)?;
        let is_last = set
            .iter()
            .all(|id| matches!(self.nfa.state(StateID::new_unchecked(*id as usize)), State::Match { .. }));
        if is_last {
            cache.index.insert(set, target | LAST);
            return Some(target | LAST);
        }
        Some(target)
    }

    fn at_end(&self, cache: &mut Cache, set: &[u32]) -> Box<[u16]> {
        let mut at_end = Vec::new();
        for id in set {
            let State::Look { next, .. } = self.nfa.state(StateID::new_unchecked(*id as usize)) else {
                continue;
            };
            cache.scratch.begin(self.nfa.states().len());
            self.close(&mut cache.scratch, *next, false, true);
            for id in &cache.scratch.set {
                if matches!(self.nfa.state(StateID::new_unchecked(*id as usize)), State::Match { .. }) {
                    at_end.push(self.names[self.owners[*id as usize] as usize]);
                }
            }
        }
        at_end.sort_unstable();
        at_end.dedup();
        at_end.into()
    }
}

/// Which pattern each NFA state belongs to; `u32::MAX` for the search prefix that all share.
fn owners(nfa: &NFA) -> Vec<u32> {
    let mut owners = vec![u32::MAX; nfa.states().len()];
    let mut stack = Vec::new();
    for pattern in nfa.patterns() {
        stack.extend(nfa.start_pattern(pattern));
        while let Some(id) = stack.pop() {
            if owners[id.as_usize()] != u32::MAX {
                continue;
            }
            owners[id.as_usize()] = pattern.as_u32();
            match nfa.state(id) {
                State::ByteRange { trans } => stack.push(trans.next),
                State::Sparse(sparse) => stack.extend(sparse.transitions.iter().map(|trans| trans.next)),
                State::Dense(dense) => stack.extend(dense.transitions.iter()),
                State::Look { next, .. } | State::Capture { next, .. } => stack.push(*next),
                State::Union { alternates } => stack.extend(alternates.iter()),
                State::BinaryUnion { alt1, alt2 } => stack.extend([*alt1, *alt2]),
                State::Fail | State::Match { .. } => {}
            }
        }
    }
    owners
}

/// What all caches of one recogniser may use together.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Octets in use.
    pub(crate) used: usize,
    /// Octets that may be used.
    pub(crate) limit: usize,
    /// Runs that ended early because of a bound.
    pub(crate) lost: u64,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Budget {
        Budget { used: 0, limit, lost: 0 }
    }

    /// Whether the caches should be renewed before the next packet.
    pub(crate) fn is_low(&self) -> bool {
        self.used > self.limit - self.limit / 4
    }
}

/// The states of one program that were asked for.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Row after row, a target for each class.
    table: Vec<u32>,
    stride: usize,
    states: Vec<DfaState>,
    index: HashMap<Arc<[u32]>, u32>,
    scratch: Scratch,
}

#[derive(Debug)]
struct DfaState {
    set: Arc<[u32]>,
    matches: Box<[u16]>,
    at_end: Box<[u16]>,
}

impl Cache {
    /// A cache with the start state only, which is made even when the budget has no room.
    pub(crate) fn new(program: &Program, budget: &mut Budget) -> Cache {
        let mut cache = Cache {
            table: Vec::new(),
            stride: program.samples.len(),
            states: Vec::new(),
            index: HashMap::new(),
            scratch: Scratch::default(),
        };
        cache.scratch.begin(program.nfa.states().len());
        program.close(&mut cache.scratch, program.start, true, false);
        cache.scratch.set.sort_unstable();
        let set: Arc<[u32]> = Arc::from(&cache.scratch.set[..]);
        let at_end = program.at_end(&mut cache, &set);
        let mut unlimited = Budget { limit: usize::MAX, ..budget.clone() };
        cache.insert(&mut unlimited, set, Box::default(), at_end);
        budget.used = unlimited.used;
        cache
    }

    /// Carries a state of `old`, a cache of the same program, over into this one.
    pub(crate) fn adopt(&mut self, budget: &mut Budget, old: &Cache, id: StateId) -> StateId {
        if id.is_dead() {
            return id;
        }
        let state = &old.states[id.0 as usize / old.stride];
        let row = match self.index.get(&state.set) {
            Some(known) => Some(*known),
            None => self.insert(budget, Arc::clone(&state.set), state.matches.clone(), state.at_end.clone()),
        };
        match row {
            Some(row) => StateId(row & ROW),
            None => {
                budget.lost += 1;
                StateId::DEAD
            }
        }
    }

    fn insert(
        &mut self,
        budget: &mut Budget,
        set: Arc<[u32]>,
        matches: Box<[u16]>,
        at_end: Box<[u16]>,
    ) -> Option<u32> {
        // The row, the set with its counts, the index entry at its load, the lists.
        let octets = self.stride * 4
            + set.len() * 4
            + 16
            + size_of::<DfaState>()
            + 2 * size_of::<(Arc<[u32]>, u32)>()
            + (matches.len() + at_end.len()) * 2;
        let row = u32::try_from(self.table.len()).ok().filter(|row| *row < ROW - 256)?;
        if budget.used + octets > budget.limit {
            return None;
        }
        budget.used += octets;
        // Doubling would hold twice of what is counted; an eighth more is near enough.
        if self.table.capacity() - self.table.len() < self.stride {
            self.table.reserve_exact((self.table.len() / 8).max(self.stride * 8));
        }
        self.table.resize(self.table.len() + self.stride, UNKNOWN);
        let flags = if matches.is_empty() { 0 } else { MATCH };
        let target = row | flags;
        self.index.insert(Arc::clone(&set), target);
        self.states.push(DfaState { set, matches, at_end });
        Some(target)
    }
}

/// Sets under construction.
#[derive(Debug, Default)]
struct Scratch {
    set: Vec<u32>,
    stack: Vec<StateID>,
    /// The round in which an NFA state was last visited.
    marks: Vec<u32>,
    round: u32,
    visited: usize,
}

impl Scratch {
    fn begin(&mut self, states: usize) {
        self.set.clear();
        self.marks.resize(states, 0);
        self.visited = 0;
        self.round = match self.round.checked_add(1) {
            Some(round) => round,
            None => {
                self.marks.fill(0);
                1
            }
        };
    }

    fn visit(&mut self, id: StateID) -> bool {
        self.visited += 1;
        let mark = &mut self.marks[id.as_usize()];
        let new = *mark != self.round;
        *mark = self.round;
        new
    }

    fn visited(&self) -> usize {
        self.visited
    }
}

#[cfg(test)]
mod tests {
    use regex_automata::{Input, nfa::thompson::pikevm::PikeVM};

    use super::*;

    fn hir(pattern: &str) -> Hir {
        let mut builder = regex_syntax::ParserBuilder::new();
        builder.utf8(false).unicode(false).dot_matches_new_line(true);
        builder.build().parse(pattern).expect("a good pattern")
    }

    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % bound
        }

        fn pattern(&mut self, depth: usize) -> String {
            let pieces = 1 + self.below(3);
            (0..pieces).map(|_| self.piece(depth)).collect()
        }

        fn piece(&mut self, depth: usize) -> String {
            match self.below(if depth == 0 { 5 } else { 9 }) {
                0 | 1 => ["a", "b", "c"][self.below(3)].to_owned(),
                2 => ".".to_owned(),
                3 => "[^b]".to_owned(),
                4 => "[ab]".to_owned(),
                5 => format!("({}|{})", self.pattern(depth - 1), self.pattern(depth - 1)),
                6 => format!("({})*", self.pattern(depth - 1)),
                7 => format!("({}){{1,3}}", self.pattern(depth - 1)),
                _ => format!("(^|{})", self.pattern(depth - 1)),
            }
        }
    }

    /// What matches within `text`, according to another engine.
    fn reference(patterns: &[Hir], anchored: bool, text: &[u8]) -> Vec<u16> {
        let config = thompson::Config::new().utf8(false);
        let matches = |hir: &Hir| {
            let nfa =
                thompson::Compiler::new().configure(config.clone()).build_from_hir(hir).expect("it builds");
            let machine = PikeVM::new_from_nfa(nfa).expect("it builds");
            let anchor = if anchored { regex_automata::Anchored::Yes } else { regex_automata::Anchored::No };
            machine.is_match(&mut machine.create_cache(), Input::new(text).anchored(anchor))
        };
        let numbered = (0u16..).zip(patterns);
        numbered.filter(|(_, hir)| matches(hir)).map(|(name, _)| name).collect()
    }

    #[test]
    fn finds_what_another_engine_finds_however_the_text_is_cut() {
        let mut seeded = Seeded(3);
        for _ in 0..300 {
            let patterns: Vec<Hir> = (0..1 + seeded.below(5))
                .map(|_| {
                    let end = if seeded.below(4) == 0 { "$" } else { "" };
                    hir(&format!("{}{end}", seeded.pattern(2)))
                })
                .filter(|hir| hir.properties().minimum_len() > Some(0))
                .collect();
            let named: Vec<(u16, &Hir)> = (0..).zip(&patterns).collect();
            let anchored = seeded.below(2) == 0;
            let program = Program::new(&named, anchored, None).expect("it is small");
            let mut budget = Budget::new(1 << 20);
            let mut cache = Cache::new(&program, &mut budget);
            for _ in 0..10 {
                let text: Vec<u8> = (0..seeded.below(12)).map(|_| b'a' + seeded.below(4) as u8).collect();
                let mut found = Vec::new();
                let mut state = StateId::START;
                for piece in text.chunks(1 + seeded.below(5)) {
                    state = program.run(&mut cache, &mut budget, state, piece, |name| found.push(name));
                    if seeded.below(3) == 0 {
                        let old = cache;
                        budget.used = 0;
                        cache = Cache::new(&program, &mut budget);
                        state = cache.adopt(&mut budget, &old, state);
                    }
                }
                program.end(&cache, state, |name| found.push(name));
                found.sort_unstable();
                found.dedup();
                assert_eq!(found, reference(&patterns, anchored, &text), "{patterns:?} on {text:?}");
            }
        }
    }

    #[test]
    fn a_run_beyond_the_budget_ends_and_is_counted() {
        let pattern = hir("a.{200}b");
        let program = Program::new(&[(1, &pattern)], false, None).expect("it is small");
        let mut budget = Budget::new(20_000);
        let mut cache = Cache::new(&program, &mut budget);
        let mut seeded = Seeded(5);
        let text: Vec<u8> = (0..4000).map(|_| b'a' + seeded.below(2) as u8).collect();
        let end = program.run(&mut cache, &mut budget, StateId::START, &text, |_| {});
        assert!(end.is_dead());
        assert_eq!(budget.lost, 1);
        assert!(budget.used <= 20_000 && budget.is_low());
    }

    #[test]
    fn a_run_beyond_its_work_ends_and_is_counted() {
        let patterns: Vec<Hir> =
            (0..20).map(|at| hir(&format!("{}.{{900}}!", (b'a' + at) as char))).collect();
        let named: Vec<(u16, &Hir)> = (0..).zip(&patterns).collect();
        let program = Program::new(&named, false, None).expect("it fits");
        let mut budget = Budget::new(usize::MAX);
        let mut cache = Cache::new(&program, &mut budget);
        let mut seeded = Seeded(5);
        let text: Vec<u8> = (0..4000).map(|_| b'a' + seeded.below(20) as u8).collect();
        assert!(program.run(&mut cache, &mut budget, StateId::START, &text, |_| {}).is_dead());
        assert_eq!(budget.lost, 1);
    }
}
