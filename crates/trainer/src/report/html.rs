//! The page: escaping, sections, figures and tables. What it writes is HTML and well-formed XML at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use plotters::style::RGBColor;

use super::chart::Series;
use super::chart::Shape;
use super::color::{ALERT, CUT, css};

const STYLE: &str = include_str!("style.css");

/// Text as it may stand in an element or an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            // XML has no way to write these.
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            control if control.is_control() => escaped.push('\u{FFFD}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Text(String),
    /// A sentence.
    Prose(String),
    Number(String),
    /// Numbers too many for a line.
    Numbers(String),
    /// What the reader should not miss.
    Alert(String),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn number(text: impl Into<String>) -> Self {
        Self::Number(text.into())
    }

    fn html(&self) -> String {
        let (class, text) = match self {
            Self::Text(text) => ("", text),
            Self::Prose(text) => (" class=\"prose\"", text),
            Self::Number(text) => (" class=\"number\"", text),
            Self::Numbers(text) => (" class=\"wrap\"", text),
            Self::Alert(text) => (" class=\"alert\"", text),
        };
        format!("<td{class}>{}</td>", escape(text))
    }
}

/// A table, its columns headed.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    fn html(&self) -> String {
        let numeric = |column: usize| {
            let cell = self.rows.first().and_then(|row| row.get(column));
            matches!(cell, Some(Cell::Number(_) | Cell::Numbers(_)))
        };
        let head: String = self
            .head
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let class = if numeric(column) {
                    " class=\"number\""
                } else {
                    ""
                };
                format!("<th scope=\"col\"{class}>{}</th>", escape(name))
            })
            .collect();
        let row = |row: &Vec<Cell>| {
            let cells: String = row.iter().map(Cell::html).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let rows: String = self.rows.iter().map(row).collect();
        format!(
            "<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
        )
    }
}

/// What a color or a line in a figure means.
#[derive(Debug, Clone)]
pub(super) struct Key {
    name: String,
    color: RGBColor,
    sign: Sign,
}

#[derive(Debug, Clone, Copy)]
enum Sign {
    Line,
    Dot,
    Mark,
    Area,
}

impl Key {
    pub(super) fn of(series: &Series) -> Self {
        let sign = match series.shape {
            Shape::Line(_) | Shape::Dotted => Sign::Line,
            Shape::Dots => Sign::Dot,
            Shape::Bars(_) => Sign::Area,
        };
        Self {
            name: series.name.clone(),
            color: series.color,
            sign,
        }
    }

    /// The vertical line of a cut that stayed, or of one that was taken back.
    pub(super) fn mark(reverted: bool) -> Self {
        let (name, color) = if reverted {
            ("reverted cut", ALERT)
        } else {
            ("cut", CUT)
        };
        Self {
            name: name.to_owned(),
            color,
            sign: Sign::Mark,
        }
    }

    pub(super) fn area(name: &str, color: RGBColor) -> Self {
        Self {
            name: name.to_owned(),
            color,
            sign: Sign::Area,
        }
    }

    fn html(&self) -> String {
        let color = css(self.color);
        let shape = match self.sign {
            Sign::Line => format!("<path d=\"M1 6H21\" stroke=\"{color}\" stroke-width=\"2.5\"/>"),
            Sign::Dot => format!("<circle cx=\"11\" cy=\"6\" r=\"3\" fill=\"{color}\"/>"),
            Sign::Mark => format!("<path d=\"M11 0V12\" stroke=\"{color}\" stroke-width=\"1.5\"/>"),
            Sign::Area => {
                format!("<rect x=\"4\" y=\"1\" width=\"14\" height=\"10\" fill=\"{color}\"/>")
            }
        };
        let name = escape(&self.name);
        format!(
            "<li><svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 22 12\" aria-hidden=\"true\">{shape}</svg>{name}</li>"
        )
    }
}

/// The page under way.
#[derive(Debug, Default)]
pub(super) struct Page {
    body: String,
    figures: usize,
    tables: usize,
    /// The figure that explains those of its kind.
    explained: BTreeMap<&'static str, usize>,
    in_section: bool,
}

impl Page {
    /// Adds what is HTML already.
    pub(super) fn raw(&mut self, html: &str) {
        self.body.push_str(html);
    }

    pub(super) fn section(&mut self, title: &str) {
        self.close_section();
        self.in_section = true;
        let _ = write!(self.body, "<section>\n<h2>{}</h2>\n", escape(title));
    }

    fn close_section(&mut self) {
        if self.in_section {
            self.raw("</section>\n");
        }
    }

    pub(super) fn subtitle(&mut self, title: &str) {
        let _ = writeln!(self.body, "<h3>{}</h3>", escape(title));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// A paragraph that the reader should not miss.
    pub(super) fn notice(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"notice\">{}</p>", escape(text));
    }

    /// Says why a plot is not there.
    pub(super) fn left_out(&mut self, title: &str, why: &str) {
        let _ = writeln!(
            self.body,
            "<p class=\"left-out\"><b>{}</b> left out: {}</p>",
            escape(title),
            escape(why)
        );
    }

    pub(super) fn table(&mut self, caption: &str, table: &Table) {
        self.tables += 1;
        let _ = write!(
            self.body,
            "<p class=\"caption\"><b>Table {}.</b> {}</p>\n{}",
            self.tables,
            escape(caption),
            table.html()
        );
    }

    /// A picture with the meaning of its colors and a caption.
    pub(super) fn figure(&mut self, svg: &str, keys: &[Key], title: &str, caption: &str) {
        self.figures += 1;
        let keys: String = keys.iter().map(Key::html).collect();
        let keys = if keys.is_empty() {
            keys
        } else {
            format!("<ul class=\"key\">{keys}</ul>\n")
        };
        let _ = write!(
            self.body,
            "<figure>\n<div class=\"plot\">\n{svg}{keys}</div>\n<figcaption><b>Figure {}. {}.</b> {}</figcaption>\n</figure>\n",
            self.figures,
            escape(title),
            escape(caption)
        );
    }

    /// A figure of a kind of which there are several: the first is explained, the others point to it. What `outcome`
    /// says is said of each.
    pub(super) fn figure_of_kind(
        &mut self,
        kind: &'static str,
        svg: &str,
        keys: &[Key],
        title: &str,
        explanation: &str,
        outcome: &str,
    ) {
        let caption = match self.explained.get(kind) {
            Some(figure) => format!("As figure {figure}. {outcome}"),
            None => format!("{explanation} {outcome}"),
        };
        self.figure(svg, keys, title, caption.trim_end());
        self.explained.entry(kind).or_insert(self.figures);
    }

    /// Two figures side by side where the screen has room.
    pub(super) fn row<E>(
        &mut self,
        content: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.raw("<div class=\"row\">\n");
        content(self)?;
        self.raw("</div>\n");
        Ok(())
    }

    /// Content that opens on demand.
    pub(super) fn details<E>(
        &mut self,
        summary: &str,
        content: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let _ = writeln!(
            self.body,
            "<details>\n<summary>{}</summary>",
            escape(summary)
        );
        content(self)?;
        self.raw("</details>\n");
        Ok(())
    }

    /// The whole document.
    pub(super) fn finish(mut self, title: &str) -> String {
        self.close_section();
        let (title, body) = (escape(title), self.body);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_text() {
        assert_eq!(
            escape("<b a='1'>\"&\u{0}\u{1b}</b>\n"),
            "&lt;b a=&#39;1&#39;&gt;&quot;&amp;\u{FFFD}\u{FFFD}&lt;/b&gt;\n"
        );
    }
}
