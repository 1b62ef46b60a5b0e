//! A model as the words of an identification-rule message, and back.
//!
//! | word | holds |
//! | --- | --- |
//! | 0 | bits 31-16 feature-set version, 15-12 form (1), 11-0 revision of the model |
//! | 1 | H, the number of hidden units |
//! | 2-4 | the features that are looked at, 24 in a word: bit 0 of word 2 is the first; a whole number each. Their number is N |
//! | 5 | threshold of the output, 0 to 1 |
//! | 6 | reach: the largest distance from the centre at which the model may claim a flow |
//! | 7.. | N centres, N scales (above 0), H rows of N weights, H biases, H output weights, the output bias |
//!
//! All words but word 0 are IEEE 754 binary32 (SPEC 5.6 R-17), finite, at most [`MAX_MAGNITUDE`] but for words 2 to 4.
//! A model looks at some of the features only, so that it has hidden units enough within 256 words.

use super::{FeatureSet, MAX_HIDDEN, MAX_MAGNITUDE, MAX_WORDS, Model, network::parameter_count};

/// The only form of model there is: one hidden tanh layer and one logistic output.
pub(super) const FORM_NETWORK: u8 = 1;
/// Words before the parameters.
pub(super) const HEAD_WORDS: usize = 5;
/// Features whose bits one word holds: a binary32 holds whole numbers of 24 bits.
const BITS: u32 = 24;

/// What word 0 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the feature set.
    pub feature_set: u16,
    /// Form of the model; 0 in a feature report.
    pub form: u8,
    /// Revision of the model, 12 bits; in a feature report the revision in use at the gateway, 0 for none.
    pub revision: u16,
}

impl Header {
    /// The largest revision; after it comes 1 again.
    pub const MAX_REVISION: u16 = 0x0fff;

    /// Word 0. Form and revision are cut to their widths.
    pub const fn to_word(self) -> u32 {
        (self.feature_set as u32) << 16 | ((self.form & 0xf) as u32) << 12 | (self.revision & 0x0fff) as u32
    }

    /// What a word 0 says. Any word can be read; whether it is known is the reader's question.
    pub const fn from_word(word: u32) -> Header {
        Header {
            feature_set: (word >> 16) as u16,
            form: (word >> 12 & 0xf) as u8,
            revision: (word & 0x0fff) as u16,
        }
    }
}

/// Why words are not a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// No word at all, or not even the shape.
    #[error("{0} words are too few for a model")]
    TooShort(usize),
    /// More than a message carries, 256.
    #[error("{0} words are more than 256")]
    TooLong(usize),
    /// The model is for another feature set.
    #[error("feature set {got} is not {expected}")]
    FeatureSet {
        /// What word 0 names.
        got: u16,
        /// What this end computes.
        expected: u16,
    },
    /// The form is not known.
    #[error("model form {0} is not known")]
    Form(u8),
    /// The number of hidden units is not a whole number in range, or the features looked at are none or not all in the set.
    #[error("the shape in words 1 to 4 is not possible")]
    Shape,
    /// The number of words does not follow from the shape.
    #[error("{got} words where the shape needs {expected}")]
    Count {
        /// How many came.
        got: usize,
        /// How many the shape needs.
        expected: usize,
    },
    /// A word is infinite or not a number.
    #[error("word {0} is not finite")]
    NotFinite(usize),
    /// A word is finite and not allowed at its place: too large, a scale that is not above zero, a threshold outside 0 to 1.
    #[error("word {0} is out of range")]
    OutOfRange(usize),
}

impl Model {
    /// The words of the identification-rule message for this model: at most 256.
    pub fn to_words(&self) -> Vec<u32> {
        let header =
            Header { feature_set: self.set().version(), form: FORM_NETWORK, revision: self.revision() };
        let mut words = Vec::with_capacity(HEAD_WORDS + self.parameters().len());
        words.push(header.to_word());
        words.push((self.hidden() as f32).to_bits());
        words.extend((0..3).map(|i| ((self.looks_at() >> (BITS * i) & ((1 << BITS) - 1)) as f32).to_bits()));
        words.extend(self.parameters().iter().map(|p| p.to_bits()));
        words
    }

    /// The model that `words` are, for a receiver that computes `set`.
    ///
    /// # Errors
    /// The first thing that is wrong, by name; see [`WordsError`].
    pub fn from_words(words: &[u32], set: FeatureSet) -> Result<Model, WordsError> {
        if words.len() > MAX_WORDS {
            return Err(WordsError::TooLong(words.len()));
        }
        if words.len() < HEAD_WORDS {
            return Err(WordsError::TooShort(words.len()));
        }
        let header = Header::from_word(words[0]);
        if header.feature_set != set.version() {
            return Err(WordsError::FeatureSet { got: header.feature_set, expected: set.version() });
        }
        if header.form != FORM_NETWORK {
            return Err(WordsError::Form(header.form));
        }
        let hidden = whole(words[1], MAX_HIDDEN as u32).filter(|h| *h > 0).ok_or(WordsError::Shape)? as usize;
        let mut looks_at = 0u128;
        for (i, word) in words[2..HEAD_WORDS].iter().enumerate() {
            let bits = whole(*word, (1 << BITS) - 1).ok_or(WordsError::Shape)?;
            looks_at |= u128::from(bits) << (BITS as usize * i);
        }
        if looks_at == 0 || looks_at >> set.len() != 0 {
            return Err(WordsError::Shape);
        }
        let looks_at = looks_at as u64;
        let features = looks_at.count_ones() as usize;
        let expected = HEAD_WORDS + parameter_count(features, hidden);
        if words.len() != expected {
            return Err(WordsError::Count { got: words.len(), expected });
        }
        let mut parameters = Vec::with_capacity(expected - HEAD_WORDS);
        for (index, &word) in words.iter().enumerate().skip(HEAD_WORDS) {
            let value = f32::from_bits(word);
            if !value.is_finite() {
                return Err(WordsError::NotFinite(index));
            }
            if value.abs() > MAX_MAGNITUDE {
                return Err(WordsError::OutOfRange(index));
            }
            parameters.push(value);
        }
        if let Some(index) = Model::misplaced(&parameters, features) {
            return Err(WordsError::OutOfRange(HEAD_WORDS + index));
        }
        Ok(Model::from_parts(set, looks_at, hidden, parameters).with_revision(header.revision))
    }
}

/// A word that holds a whole number of 0 to `most`.
fn whole(word: u32, most: u32) -> Option<u32> {
    let value = f32::from_bits(word);
    // The conversion saturates and takes what is not a number for 0, so one way back tells.
    let number = value as u32;
    (number <= most && (number as f32).to_bits() == word).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognize::model::{MAX_FEATURES, hidden_that_fit, network::tests::sample_model};

    const SET: FeatureSet = FeatureSet::new(3, 24).expect("in range");

    fn words() -> Vec<u32> {
        sample_model(SET, 7).to_words()
    }

    #[test]
    fn every_shape_that_fits_goes_there_and_back() {
        for len in 1..=MAX_FEATURES {
            let set = FeatureSet::new(9, len).unwrap();
            let model = sample_model(set, 5);
            assert_eq!(model.hidden(), hidden_that_fit(len));
            let words = model.to_words();
            assert!(words.len() <= MAX_WORDS, "{len} features make {} words", words.len());
            let back = Model::from_words(&words, set).unwrap();
            assert_eq!(back, model);
            assert_eq!(back.to_words(), words);
        }
    }

    #[test]
    fn word_0_is_feature_set_form_and_revision_and_finite() {
        let word = Header { feature_set: FeatureSet::MAX_VERSION, form: 15, revision: 0x0fff }.to_word();
        assert!(f32::from_bits(word).is_finite());
        assert_eq!(Header::from_word(0x0003_1007), Header { feature_set: 3, form: 1, revision: 7 });
        assert_eq!(words()[0], 0x0003_1007);
    }

    #[test]
    fn each_kind_of_wrong_words_has_its_name() {
        let good = words();
        let with = |index: usize, word: u32| {
            let mut w = good.clone();
            w[index] = word;
            Model::from_words(&w, SET)
        };
        assert_eq!(Model::from_words(&[], SET), Err(WordsError::TooShort(0)));
        assert_eq!(Model::from_words(&good[..2], SET), Err(WordsError::TooShort(2)));
        assert_eq!(Model::from_words(&[0; 257], SET), Err(WordsError::TooLong(257)));
        assert_eq!(with(0, 0x0004_1007), Err(WordsError::FeatureSet { got: 4, expected: 3 }));
        assert_eq!(with(0, 0x0003_2007), Err(WordsError::Form(2)));
        for shape in [0.0f32, -0.0, -1.0, 1.5, 9.0, 1.0e9, f32::NAN, f32::INFINITY] {
            assert_eq!(with(1, shape.to_bits()), Err(WordsError::Shape), "{shape} hidden");
        }
        for shape in [0.0f32, -1.0, 2.5, 16_777_216.0, f32::NAN] {
            assert_eq!(with(2, shape.to_bits()), Err(WordsError::Shape), "{shape} features");
        }
        assert_eq!(with(3, 1.0f32.to_bits()), Err(WordsError::Shape), "the 25th of 24 features");
        assert_eq!(with(4, 8_388_608.0f32.to_bits()), Err(WordsError::Shape));
        let fewer = WordsError::Count { got: good.len(), expected: good.len() - 2 - 7 };
        assert_eq!(with(2, 8_388_607.0f32.to_bits()), Err(fewer), "one feature less");
        let n = good.len();
        assert_eq!(
            Model::from_words(&good[..n - 1], SET),
            Err(WordsError::Count { got: n - 1, expected: n })
        );
        assert_eq!(with(n - 1, f32::NAN.to_bits()), Err(WordsError::NotFinite(n - 1)));
        assert_eq!(with(40, f32::NEG_INFINITY.to_bits()), Err(WordsError::NotFinite(40)));
        assert_eq!(with(40, 2.0e6f32.to_bits()), Err(WordsError::OutOfRange(40)));
        assert_eq!(with(5, 1.5f32.to_bits()), Err(WordsError::OutOfRange(5)), "threshold");
        assert_eq!(with(6, (-1.0f32).to_bits()), Err(WordsError::OutOfRange(6)), "reach");
        assert_eq!(with(7 + 24, 0), Err(WordsError::OutOfRange(31)), "scale");
    }

    #[test]
    fn no_words_make_it_panic_and_what_it_takes_never_gives_a_wrong_number() {
        let good = words();
        let mut random = crate::recognize::model::random::Random::new(1);
        let mut taken = 0;
        for _ in 0..20_000 {
            let mut w = good.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(w.len());
                w[at] = match random.below(3) {
                    0 => (random.below(1 << 16) << 16 | random.below(1 << 16)) as u32,
                    1 => w[at] ^ 1 << random.below(32),
                    _ => 1.0e6f32.to_bits(),
                };
            }
            w.truncate(w.len() - if random.below(8) == 0 { random.below(w.len()) } else { 0 });
            if let Ok(model) = Model::from_words(&w, SET) {
                taken += 1;
                let features: Vec<f32> = (0..24).map(|_| random.signed() * MAX_MAGNITUDE).collect();
                let assessment = model.assess(&features).unwrap();
                assert!((0.0..=1.0).contains(&assessment.probability) && assessment.distance.is_finite());
            }
        }
        assert!(taken > 100, "only {taken} variants were taken");
    }
}
