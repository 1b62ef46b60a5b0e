//! Room that many share: who takes much leaves room for others, be they ever so many.

/// Whether one that has `own` may have `more` of what there is for `all`, of which `used` is taken.
///
/// The less there is left, the less one may have: an eighth of it. So some who take all they can get leave more than half to the
/// others as long as they are eight or fewer, and a rest whatever their number. While less than half is taken, everyone may have
/// `floor`, so that what is small goes through where the whole is small too.
pub(crate) const fn is_within(own: usize, more: usize, floor: usize, used: usize, all: usize) -> bool {
    let left = all.saturating_sub(used);
    let wanted = own.saturating_add(more);
    more <= left && (wanted <= left / 8 || (wanted <= floor && used < all / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_take_all_they_can_there_is_room_for_another() {
        for hogs in [1, 8, 100, 1000, 10_000] {
            let (all, mut used, mut own) = (1_000_000, 0, vec![0; hogs]);
            let mut took = true;
            while std::mem::take(&mut took) {
                for own in &mut own {
                    if is_within(*own, 10, 500, used, all) {
                        *own += 10;
                        used += 10;
                        took = true;
                    }
                }
            }
            assert!(is_within(0, 10, 500, used, all), "{hogs} leave {}", all - used);
            assert!(hogs > 8 || used <= all / 2 + 10, "{hogs} take {used}");
        }
    }
}
