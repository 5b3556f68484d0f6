//! Median, least and most of a few runs; percentiles of many requests.

/// A figure over the runs of one proxy in one scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle run; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Spread { median: (lower + upper) / 2.0, min, max })
    }
}

/// The values, in milliseconds, that these shares of microseconds do not exceed; `None` without values. By rank: the
/// least value that at least so many are not above.
pub fn percentiles<const N: usize>(micros: &mut [u32], shares: [f64; N]) -> Option<[f64; N]> {
    micros.sort_unstable();
    let mut out = [0.0; N];
    for (share, out) in shares.into_iter().zip(&mut out) {
        // Less than a hair off: 0.999 × 1,000 is 999 and not the 1,000 that its rounding error makes of it.
        let rank = (share * micros.len() as f64 - 1e-6).ceil().max(1.0) as usize;
        *out = f64::from(*micros.get(rank.min(micros.len()).checked_sub(1)?)?) / 1e3;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_even_and_none() {
        assert_eq!(Spread::of([3.0, 1.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]).map(|s| s.median), Some(3.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn percentiles_are_by_rank() {
        let mut thousand: Vec<u32> = (1..=1000).rev().map(|n| n * 1000).collect();
        assert_eq!(percentiles(&mut thousand, [0.5, 0.99, 0.999, 1.0]), Some([500.0, 990.0, 999.0, 1000.0]));
        assert_eq!(percentiles(&mut [7000], [0.0, 0.5, 0.999]), Some([7.0; 3]));
        assert_eq!(percentiles(&mut [1000, 9000], [0.5, 0.51]), Some([1.0, 9.0]));
        assert_eq!(percentiles(&mut [], [0.5]), None);
    }
}
