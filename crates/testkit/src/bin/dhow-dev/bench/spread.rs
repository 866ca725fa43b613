//! A few measurements of one thing.

use std::fmt;

/// Measurements in one unit, at least one.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; of an even number the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match (self.0.get(middle), middle.checked_sub(1).and_then(|below| self.0.get(below))) {
            (Some(high), Some(low)) if self.0.len().is_multiple_of(2) => f64::midpoint(*low, *high),
            (Some(value), _) => *value,
            (None, _) => f64::NAN,
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (self.0.first().unwrap_or(&f64::NAN), self.0.last().unwrap_or(&f64::NAN));
        write!(f, "{:8.2} [{least:.2} to {most:.2}]", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_the_extremes() {
        let mut spread = Spread::default();
        for value in [5.0, 1.0, 9.0] {
            spread.add(value);
        }
        assert_eq!(spread.to_string().trim(), "5.00 [1.00 to 9.00]");
        spread.add(7.0);
        assert!((spread.median() - 6.0).abs() < 1e-9);
    }
}
