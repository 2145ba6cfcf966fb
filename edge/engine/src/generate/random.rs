//! The random numbers of sampling: the same for the same seed, for ever.

/// xoshiro256++ 1.0 (Blackman and Vigna 2019), seeded by SplitMix64.
///
/// A general-purpose crate may change its generator between versions, which would change
/// the answers that a seed gives; this one is written down.
#[derive(Clone, Debug)]
pub(crate) struct Random([u64; 4]);

impl Random {
    /// The generator of choice `index` of a request with `seed`.
    pub(crate) fn new(seed: u64, index: u32) -> Self {
        let mut state = seed ^ u64::from(index).wrapping_mul(0xd134_2543_de82_ef95);
        Self(std::array::from_fn(|_| split_mix(&mut state)))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // 53 bits fit
        let value = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        value
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first outputs of SplitMix64 for seed 1234567, as published with the algorithm.
    #[test]
    fn seeding_follows_the_published_vector() {
        let mut state = 1_234_567;
        let first: Vec<u64> = (0..3).map(|_| split_mix(&mut state)).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    proptest! {
        #[test]
        fn numbers_are_in_range_and_repeat_for_a_seed(seed: u64, index: u32) {
            let (mut a, mut b) = (Random::new(seed, index), Random::new(seed, index));
            for _ in 0..32 {
                let value = a.unit();
                prop_assert!((0.0..1.0).contains(&value));
                prop_assert_eq!(value.to_bits(), b.unit().to_bits());
            }
        }

        #[test]
        fn choices_of_one_seed_differ(seed: u64, index in 1_u32..128) {
            prop_assert_ne!(Random::new(seed, 0).next(), Random::new(seed, index).next());
        }
    }
}
