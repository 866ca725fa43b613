//! Figures by row and way, printed with their ratios.

use super::Spread;

/// Dhow's own way.
pub const OWN: &str = "dhow";

/// Rows in the order in which they were first measured.
#[derive(Default)]
pub struct Table {
    ways: Vec<&'static str>,
    rows: Vec<(String, Vec<Option<Spread>>)>,
    failures: Vec<String>,
}

impl Table {
    /// With a column for each way.
    pub fn new(ways: Vec<&'static str>) -> Self {
        Self { ways, ..Self::default() }
    }

    /// One more measurement.
    pub fn add(&mut self, row: &str, way: &str, value: f64) {
        let Some(column) = self.ways.iter().position(|known| *known == way) else { return };
        let at = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), vec![None; self.ways.len()]));
            self.rows.len() - 1
        });
        self.rows[at].1[column].get_or_insert_default().add(value);
    }

    /// A measurement that did not come off.
    pub fn fail(&mut self, row: &str, way: &str, why: &str) {
        let why: String = why.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        self.failures.push(format!("{row}, {way}: {why}"));
    }

    /// The median of a row in a column.
    pub fn median(&self, row: &str, way: &str) -> Option<f64> {
        let column = self.ways.iter().position(|known| *known == way)?;
        let (_, spreads) = self.rows.iter().find(|(name, _)| name == row)?;
        spreads[column].as_ref().map(Spread::median)
    }

    /// Prints everything: medians, their spread, and what Dhow's is of each other way's.
    pub fn print(&self) {
        for (row, spreads) in &self.rows {
            println!("  {row}");
            for (way, spread) in self.ways.iter().zip(spreads) {
                let Some(spread) = spread else { continue };
                let ratio = match self.median(row, OWN) {
                    Some(own) if *way != OWN => format!("   {:6.2}", own / spread.median()),
                    _ => String::new(),
                };
                println!("    {way:<8} {:<36}{ratio}", spread.to_string());
            }
        }
        if !self.failures.is_empty() {
            println!("  did not come off:");
            self.failures.iter().for_each(|failure| println!("    {failure}"));
        }
    }
}
