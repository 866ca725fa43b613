//! What the network is to reach, and whether it does.

use super::table::{OWN, Table};

/// Says of each aim whether it is met, and by what.
pub fn print(table: &Table) {
    println!("  aims:");
    for row in [super::TO_CONTAINER, super::FROM_PUBLISHED, super::UP, super::DOWN] {
        say(table, row, "user", 3.0, true);
        say(table, row, "passt", 1.0, true);
    }
    for row in [super::TO_CONTAINER, super::FROM_PUBLISHED] {
        say(table, row, "ssh -L", 1.0, true);
    }
    for row in [super::TO_CONTAINER_AND_BACK, super::OUT_AND_BACK] {
        say(table, row, "user", 1.0, false);
    }
}

/// Dhow's figure is to be at least, or at most, `factor` times that of `other`.
fn say(table: &Table, row: &str, other: &str, factor: f64, more: bool) {
    let (Some(own), Some(others)) = (table.median(row, OWN), table.median(row, other)) else {
        println!("    unknown   {row}: not measured over both dhow and {other}");
        return;
    };
    let ratio = own / others;
    let met = if more { ratio >= factor } else { ratio <= factor };
    let (verdict, bound) = (if met { "met    " } else { "not met" }, if more { "least" } else { "most" });
    println!("    {verdict}   {row}: {ratio:.2} times {other}, at {bound} {factor:.0} wanted");
}
