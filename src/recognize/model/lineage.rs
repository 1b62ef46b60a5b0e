//! The models of one AppID on the backend: the one in use, and those before it to go back to.

use super::{FeatureSet, Header, Model, WordsError};
use crate::recognize::AppId;
use std::collections::VecDeque;

/// Where a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Trained here.
    Trained,
    /// Offered by another trainer, and judged.
    Offered,
    /// Put there by the operator or shipped, unjudged.
    Installed,
}

/// Why octets are not the row of an AppID's models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    /// The version of the row is not known.
    #[error("model row version {0} is not known")]
    Version(u8),
    /// Too few octets, too many, an origin or flag that is not known.
    #[error("the model row is malformed")]
    Malformed,
    /// A model in it is not one of the feature set in use.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// There is no room for one more AppID.
    #[error("models of so many AppIDs are kept already")]
    Full,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Version {
    pub(super) origin: Origin,
    pub(super) model: Model,
}

/// Versions of one AppID's model, the one in use first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lineage {
    versions: VecDeque<Version>,
    /// The revision used last.
    revision: u16,
    /// No training by itself until the operator lifts it.
    pub(super) held: bool,
}

const ROW_VERSION: u8 = 1;

impl Lineage {
    pub(super) fn current(&self) -> Option<&Version> {
        self.versions.front()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.versions.len()
    }

    /// Puts a model in use under the next revision, which it returns; keeps at most `keep` before it.
    pub(super) fn push(&mut self, origin: Origin, model: Model, keep: usize) -> u16 {
        self.revision = if self.revision >= Header::MAX_REVISION { 1 } else { self.revision + 1 };
        self.versions.push_front(Version { origin, model: model.with_revision(self.revision) });
        self.versions.truncate(keep + 1);
        self.revision
    }

    /// Gives up the model in use for the one before it; its revision, or `None`, and no change, when there is none before.
    pub(super) fn roll_back(&mut self) -> Option<u16> {
        if self.versions.len() < 2 {
            return None;
        }
        self.versions.pop_front();
        self.held = true;
        self.current().map(|v| v.model.revision())
    }

    /// The row's value, big-endian: version 1, held 1, last revision 2, AppID 4, count 1, then for each model its origin 1,
    /// number of words 2, and the words.
    pub(super) fn encode(&self, app: AppId) -> Vec<u8> {
        let mut row = vec![ROW_VERSION, u8::from(self.held)];
        row.extend(self.revision.to_be_bytes());
        row.extend(app.0.to_be_bytes());
        row.push(self.versions.len() as u8);
        for Version { origin, model } in &self.versions {
            let words = model.to_words();
            row.push(*origin as u8);
            row.extend((words.len() as u16).to_be_bytes());
            row.extend(words.iter().flat_map(|w| w.to_be_bytes()));
        }
        row
    }

    /// A row read back; of more than `keep` former models the oldest are left out.
    pub(super) fn decode(row: &[u8], set: FeatureSet, keep: usize) -> Result<(AppId, Lineage), LineageError> {
        let version = *row.first().ok_or(LineageError::Malformed)?;
        if version != ROW_VERSION {
            return Err(LineageError::Version(version));
        }
        let (head, mut rest) = row.split_first_chunk::<9>().ok_or(LineageError::Malformed)?;
        let [_, held, r0, r1, a0, a1, a2, a3, count] = *head;
        let revision = u16::from_be_bytes([r0, r1]);
        if held > 1 || revision > Header::MAX_REVISION {
            return Err(LineageError::Malformed);
        }
        let mut versions = VecDeque::new();
        for _ in 0..count {
            let ([origin, n0, n1], after) = rest.split_first_chunk().ok_or(LineageError::Malformed)?;
            let origin = match origin {
                0 => Origin::Trained,
                1 => Origin::Offered,
                2 => Origin::Installed,
                _ => return Err(LineageError::Malformed),
            };
            let length = 4 * usize::from(u16::from_be_bytes([*n0, *n1]));
            let (octets, after) = after.split_at_checked(length).ok_or(LineageError::Malformed)?;
            let words: Vec<u32> = octets.as_chunks().0.iter().map(|w| u32::from_be_bytes(*w)).collect();
            versions.push_back(Version { origin, model: Model::from_words(&words, set)? });
            rest = after;
        }
        if !rest.is_empty() {
            return Err(LineageError::Malformed);
        }
        versions.truncate(keep + 1);
        Ok((AppId(u32::from_be_bytes([a0, a1, a2, a3])), Lineage { versions, revision, held: held == 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::network::tests::sample_model, *};

    const SET: FeatureSet = FeatureSet::new(3, 10).expect("in range");

    fn lineage() -> Lineage {
        let mut lineage = Lineage::default();
        for origin in [Origin::Installed, Origin::Trained, Origin::Offered, Origin::Trained] {
            lineage.push(origin, sample_model(SET, 99), 2);
        }
        lineage
    }

    #[test]
    fn it_keeps_so_many_and_goes_back() {
        let mut l = lineage();
        assert_eq!((l.len(), l.current().unwrap().model.revision()), (3, 4));
        assert_eq!(l.roll_back(), Some(3));
        assert!(l.held);
        assert_eq!(l.current().unwrap().origin, Origin::Offered);
        assert_eq!(l.roll_back(), Some(2));
        assert_eq!(l.roll_back(), None);
        assert_eq!(l.push(Origin::Trained, sample_model(SET, 1), 2), 5, "a revision is not used twice");
        l.revision = Header::MAX_REVISION;
        assert_eq!(l.push(Origin::Trained, sample_model(SET, 1), 2), 1);
    }

    #[test]
    fn a_row_goes_there_and_back_and_hostile_rows_have_names() {
        let l = lineage();
        let row = l.encode(AppId(7));
        assert_eq!(Lineage::decode(&row, SET, 2), Ok((AppId(7), l.clone())));
        assert_eq!(Lineage::decode(&row, SET, 1).unwrap().1.len(), 2);
        assert_eq!(Lineage::default().encode(AppId(1)).len(), 9);
        for cut in 0..row.len() {
            assert_eq!(Lineage::decode(&row[..cut], SET, 2), Err(LineageError::Malformed), "cut at {cut}");
        }
        let with = |at: usize, octet: u8| {
            let mut r = row.clone();
            r[at] = octet;
            Lineage::decode(&r, SET, 2).unwrap_err()
        };
        assert_eq!(with(0, 2), LineageError::Version(2));
        assert_eq!(with(1, 2), LineageError::Malformed);
        assert_eq!(with(2, 0xff), LineageError::Malformed);
        assert_eq!(with(8, 2), LineageError::Malformed);
        assert_eq!(with(9, 3), LineageError::Malformed);
        assert_eq!(with(13, 4), LineageError::Words(WordsError::FeatureSet { got: 4, expected: 3 }));
    }
}
