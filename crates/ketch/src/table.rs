//! What etcd's tools print: tables and sizes.

/// Headings in the middle, cells to the right.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |(column, head): (usize, &&str)| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head.len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = heads.iter().enumerate().map(width).collect();
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let head: String = heads.iter().zip(&widths).map(|(head, width)| format!("| {head:^width$} ")).collect();
    let mut lines = vec![format!("{rule}+"), format!("{head}|"), format!("{rule}+")];
    for row in rows {
        let cells: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("| {cell:>width$} ")).collect();
        lines.push(format!("{cells}|"));
    }
    lines.push(format!("{rule}+"));
    lines.join("\n")
}

/// Bytes in powers of a thousand, two digits.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}
