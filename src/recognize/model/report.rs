//! The feature report (S313): the features of one flow as words.

use super::{FeatureSet, Header, MAX_MAGNITUDE};

/// Why numbers are not the features of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// Another number of features than the set has, or no word 0.
    #[error("{got} features where the set has {expected}")]
    Count {
        /// How many came.
        got: usize,
        /// How many the set has.
        expected: usize,
    },
    /// The report is of another feature set, or word 0 is not one.
    #[error("feature set {got} is not {expected}")]
    FeatureSet {
        /// What word 0 names.
        got: u16,
        /// What this end knows.
        expected: u16,
    },
    /// A feature is infinite or not a number.
    #[error("feature {0} is not finite")]
    NotFinite(usize),
    /// A feature is larger than [`MAX_MAGNITUDE`].
    #[error("feature {0} is out of range")]
    OutOfRange(usize),
}

/// Whether `features` is a vector of `set`: the right number of values, all finite and at most [`MAX_MAGNITUDE`].
///
/// # Errors
/// The first thing that is wrong.
pub fn check_features(set: FeatureSet, features: &[f32]) -> Result<(), FeatureError> {
    if features.len() != set.len() {
        return Err(FeatureError::Count { got: features.len(), expected: set.len() });
    }
    for (index, value) in features.iter().enumerate() {
        if !value.is_finite() {
            return Err(FeatureError::NotFinite(index));
        }
        if value.abs() > MAX_MAGNITUDE {
            return Err(FeatureError::OutOfRange(index));
        }
    }
    Ok(())
}

/// The words of a feature report: word 0 with the revision of the model in use (0 for none), then the features.
///
/// # Errors
/// When `features` is not a vector of `set`.
pub fn report_to_words(set: FeatureSet, revision: u16, features: &[f32]) -> Result<Vec<u32>, FeatureError> {
    check_features(set, features)?;
    let header = Header { feature_set: set.version(), form: 0, revision };
    Ok(std::iter::once(header.to_word()).chain(features.iter().map(|f| f.to_bits())).collect())
}

/// What the words of a feature report say: the model revision in use at the gateway, and the features.
///
/// # Errors
/// Words that are not a report of `set`: wrong set or form, wrong number, not finite, too large.
pub fn report_from_words(set: FeatureSet, words: &[u32]) -> Result<(u16, Vec<f32>), FeatureError> {
    let Some((&first, rest)) = words.split_first() else {
        return Err(FeatureError::Count { got: 0, expected: set.len() });
    };
    let header = Header::from_word(first);
    if header.feature_set != set.version() || header.form != 0 {
        return Err(FeatureError::FeatureSet { got: header.feature_set, expected: set.version() });
    }
    if rest.len() != set.len() {
        return Err(FeatureError::Count { got: rest.len(), expected: set.len() });
    }
    let features: Vec<f32> = rest.iter().map(|w| f32::from_bits(*w)).collect();
    check_features(set, &features)?;
    Ok((header.revision, features))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: FeatureSet = FeatureSet::new(2, 3).expect("in range");

    #[test]
    fn there_and_back() {
        let words = report_to_words(SET, 9, &[1.0, -0.0, 1.0e6]).unwrap();
        assert_eq!(words, [0x0002_0009, 0x3f80_0000, 0x8000_0000, 0x4974_2400]);
        assert_eq!(report_from_words(SET, &words), Ok((9, vec![1.0, -0.0, 1.0e6])));
    }

    #[test]
    fn hostile_words_have_names() {
        let one = 1.0f32.to_bits();
        let head = 0x0002_0000;
        let refused = |words: &[u32]| report_from_words(SET, words).unwrap_err();
        assert_eq!(refused(&[]), FeatureError::Count { got: 0, expected: 3 });
        assert_eq!(refused(&[head]), FeatureError::Count { got: 0, expected: 3 });
        assert_eq!(refused(&vec![head; 256]), FeatureError::Count { got: 255, expected: 3 });
        assert_eq!(refused(&[one, one, one, one]), FeatureError::FeatureSet { got: 0x3f80, expected: 2 });
        assert_eq!(
            refused(&[head | 0x1000, one, one, one]),
            FeatureError::FeatureSet { got: 2, expected: 2 }
        );
        assert_eq!(refused(&[head, one, f32::NAN.to_bits(), one]), FeatureError::NotFinite(1));
        assert_eq!(refused(&[head, one, one, f32::INFINITY.to_bits()]), FeatureError::NotFinite(2));
        assert_eq!(refused(&[head, (-1.1e6f32).to_bits(), one, one]), FeatureError::OutOfRange(0));
        assert!(report_to_words(SET, 0, &[f32::NAN; 3]).is_err());
    }
}
