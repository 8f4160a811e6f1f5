//! Plain-text tables: columns as wide as their values, without lines around them. Cells may hold
//! text from outside.

use crate::outside::cell;

/// Formats rows under a head, with columns two spaces apart. The last column is not padded.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|text| cell(text))).collect();
    let mut widths = head.map(|word| word.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = head.map(str::to_owned);
    let mut out = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            line.push_str(&format!("{gap}{cell:<width$}"));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["é".to_owned(), "1".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME    N\né       1\nlonger\n");
    }

    #[test]
    fn a_cell_is_one_bounded_line() {
        let rows = [["a\nforged\u{1b}[2J".to_owned(), "1".to_owned()], ["x".repeat(70_000), "2".to_owned()]];
        let table = table(["NAME", "N"], &rows);
        assert_eq!(table.lines().count(), 3);
        assert!(table.contains("a\\nforged\\u{1b}[2J") && table.len() < 10_000, "{}", table.len());
    }
}
