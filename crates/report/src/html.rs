//! The page: sections, figures and tables. What it writes is HTML and well-formed XML at once.

use std::collections::BTreeMap;
use std::mem;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::style::RGBColor;

use crate::chart::Series;
use crate::chart::Shape;
use crate::color::{ALERT, CUT, css};

const STYLE: &str = include_str!("style.css");

/// Elements without an end, which XML wants closed.
const META: &str = "<meta charset=\"utf-8\"/>\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";

/// A cell of a table.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
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
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn number(text: impl Into<String>) -> Self {
        Self::Number(text.into())
    }

    fn html(&self) -> Markup {
        let (class, text) = match self {
            Self::Text(text) => (None, text),
            Self::Prose(text) => (Some("prose"), text),
            Self::Number(text) => (Some("number"), text),
            Self::Numbers(text) => (Some("wrap"), text),
            Self::Alert(text) => (Some("alert"), text),
        };
        html! { td class=[class] { (text) } }
    }
}

/// A table, its columns headed.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    fn html(&self) -> Markup {
        let class = |column: usize| {
            let cell = self.rows.first().and_then(|row| row.get(column));
            matches!(cell, Some(Cell::Number(_) | Cell::Numbers(_))).then_some("number")
        };
        html! {
            div.wide {
                table {
                    thead {
                        tr {
                            @for (column, name) in self.head.iter().enumerate() {
                                th scope="col" class=[class(column)] { (name) }
                            }
                        }
                    }
                    tbody {
                        @for row in &self.rows {
                            tr { @for cell in row { (cell.html()) } }
                        }
                    }
                }
            }
        }
    }
}

/// What a color or a line in a figure means.
#[derive(Debug, Clone)]
pub(crate) struct Key {
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
    pub(crate) fn of(series: &Series) -> Self {
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
    pub(crate) fn mark(reverted: bool) -> Self {
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

    pub(crate) fn area(name: &str, color: RGBColor) -> Self {
        Self {
            name: name.to_owned(),
            color,
            sign: Sign::Area,
        }
    }

    fn html(&self) -> Markup {
        let color = css(self.color);
        html! {
            li {
                svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 22 12" aria-hidden="true" {
                    @match self.sign {
                        Sign::Line => { path d="M1 6H21" stroke=(color) stroke-width="2.5" {} }
                        Sign::Dot => { circle cx="11" cy="6" r="3" fill=(color) {} }
                        Sign::Mark => { path d="M11 0V12" stroke=(color) stroke-width="1.5" {} }
                        Sign::Area => { rect x="4" y="1" width="14" height="10" fill=(color) {} }
                    }
                }
                (self.name)
            }
        }
    }
}

/// The page under way.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Whole sections.
    finished: String,
    /// Title of the section under way; none before the first.
    title: Option<&'static str>,
    body: String,
    figures: usize,
    tables: usize,
    /// The figure that explains those of its kind.
    explained: BTreeMap<&'static str, usize>,
}

impl Page {
    pub(crate) fn add(&mut self, content: Markup) {
        self.body.push_str(&content.0);
    }

    /// What `content` would add.
    fn inside<E>(&mut self, content: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<Markup, E> {
        let before = mem::take(&mut self.body);
        let result = content(self);
        let inside = mem::replace(&mut self.body, before);
        result.map(|()| PreEscaped(inside))
    }

    pub(crate) fn section(&mut self, title: &'static str) {
        self.close_section();
        self.title = Some(title);
    }

    fn close_section(&mut self) {
        let body = PreEscaped(mem::take(&mut self.body));
        let whole = match self.title.take() {
            Some(title) => html! { section { h2 { (title) } (body) } },
            None => body,
        };
        self.finished.push_str(&whole.0);
        self.finished.push('\n');
    }

    pub(crate) fn subtitle(&mut self, title: &str) {
        self.add(html! { h3 { (title) } });
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.add(html! { p { (text) } });
    }

    /// A paragraph that the reader should not miss.
    pub(crate) fn notice(&mut self, text: &str) {
        self.add(html! { p.notice { (text) } });
    }

    /// Says why a plot is not there.
    pub(crate) fn left_out(&mut self, title: &str, why: &str) {
        self.add(html! { p.left-out { b { (title) } " left out: " (why) } });
    }

    pub(crate) fn table(&mut self, caption: &str, table: &Table) {
        self.tables += 1;
        self.add(html! {
            p.caption { b { "Table " (self.tables) "." } " " (caption) }
            (table.html())
        });
    }

    /// A picture with the meaning of its colors and a caption.
    pub(crate) fn figure(&mut self, svg: &str, keys: &[Key], title: &str, caption: &str) {
        self.figures += 1;
        self.add(html! {
            figure {
                div.plot {
                    (PreEscaped(svg))
                    @if !keys.is_empty() {
                        ul.key { @for key in keys { (key.html()) } }
                    }
                }
                figcaption { b { "Figure " (self.figures) ". " (title) "." } " " (caption) }
            }
        });
    }

    /// A figure of a kind of which there are several: the first is explained, the others point to it. What `outcome`
    /// says is said of each.
    pub(crate) fn figure_of_kind(
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

    /// Content that stays together.
    pub(crate) fn group<E>(
        &mut self,
        content: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let content = self.inside(content)?;
        self.add(html! { div { (content) } });
        Ok(())
    }

    /// Content side by side where the screen has room.
    pub(crate) fn row<E>(
        &mut self,
        content: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let content = self.inside(content)?;
        self.add(html! { div.row { (content) } });
        Ok(())
    }

    /// Content that opens on demand.
    pub(crate) fn details<E>(
        &mut self,
        summary: &str,
        content: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let content = self.inside(content)?;
        self.add(html! { details { summary { (summary) } (content) } });
        Ok(())
    }

    /// The whole document.
    pub(crate) fn finish(mut self, title: &str) -> String {
        self.close_section();
        let document = html! {
            (DOCTYPE)
            html lang="en" xmlns="http://www.w3.org/1999/xhtml" {
                head {
                    (PreEscaped(META))
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body { main { (PreEscaped(self.finished)) } }
            }
        };
        document.0.replace(unwritable, "\u{FFFD}")
    }
}

/// Characters that XML has no way to write, which a text of the run may hold.
fn unwritable(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{FFFE}' | '\u{FFFF}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_text() {
        let mut page = Page::default();
        page.paragraph("<b a='1'>\"&\u{0}\u{1b}\u{ffff}</b>\n");
        let document = page.finish("a < b");
        for part in [
            "<p>&lt;b a='1'&gt;&quot;&amp;\u{FFFD}\u{FFFD}\u{FFFD}&lt;/b&gt;\n</p>",
            "<title>a &lt; b</title>",
        ] {
            assert!(document.contains(part), "{document}");
        }
    }
}
