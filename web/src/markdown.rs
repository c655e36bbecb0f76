//! Markdown as elements of the page.
//!
//! Safe by construction: what an answer says becomes text nodes inside elements of a fixed list. There is no way from a
//! text to markup (raw HTML is shown as text), nothing is fetched (an image is its description), and a link has one of
//! three schemes and leaves without a referrer.

mod blocks;
mod highlight;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use yew::prelude::*;
use yew::virtual_dom::VTag;

use crate::messages as m;

/// Deepest nesting of lists and quotes that is shown as such. Rendering recurses, and a hostile answer nests at will.
const MAX_DEPTH: usize = 12;
/// Schemes that a link may have.
const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];

/// Properties of [`Markdown`].
#[derive(PartialEq, Properties)]
pub struct MarkdownProps {
    /// The text, which may still grow.
    pub text: AttrValue,
}

/// A text as paragraphs, lists, code and tables. While it grows, only its last block is read and rendered again.
#[component]
pub fn Markdown(props: &MarkdownProps) -> Html {
    blocks::split(&props.text)
        .into_iter()
        .enumerate()
        .map(|(index, block)| html! { <Block key={index} text={AttrValue::from(block.to_owned())} /> })
        .collect()
}

#[component]
fn Block(props: &MarkdownProps) -> Html {
    render(&props.text)
}

/// An element that is being filled.
struct Open {
    tag: &'static str,
    attributes: Vec<(&'static str, AttrValue)>,
    children: Vec<Html>,
    /// Its text is collected here instead, for what needs it whole.
    code: Option<(String, String)>,
}

impl Open {
    fn new(tag: &'static str) -> Self {
        Self { tag, attributes: Vec::new(), children: Vec::new(), code: None }
    }

    fn with(mut self, name: &'static str, value: impl Into<AttrValue>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    fn close(self) -> Html {
        match self.code {
            Some((language, code)) => code_block(&language, &code),
            None => element(self.tag, self.attributes, self.children),
        }
    }
}

fn element(tag: &'static str, attributes: Vec<(&'static str, AttrValue)>, children: Vec<Html>) -> Html {
    let mut element = VTag::new(tag);
    for (name, value) in attributes {
        element.add_attribute(name, value);
    }
    element.add_children(children);
    element.into()
}

/// Turns one text into elements.
fn render(text: &str) -> Html {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut open = vec![Open::new("")];
    // Elements beyond the deepest level, whose ends are skipped like their beginnings.
    let mut too_deep = 0_usize;
    let mut in_head = false;
    for event in Parser::new_ext(text, options) {
        let depth = open.len();
        match event {
            Event::Start(_) if depth > MAX_DEPTH || too_deep > 0 => too_deep += 1,
            Event::End(_) if too_deep > 0 => too_deep -= 1,
            Event::Start(tag) => {
                in_head |= matches!(tag, Tag::TableHead);
                open.push(opened(tag, in_head));
            }
            Event::End(tag) => {
                in_head &= tag != TagEnd::TableHead;
                close_last(&mut open);
            }
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => add_text(&mut open, &text),
            Event::Code(code) => add(&mut open, html! { <code>{ code.into_string() }</code> }),
            Event::SoftBreak => add_text(&mut open, "\n"),
            Event::HardBreak => add(&mut open, html! { <br /> }),
            Event::Rule => add(&mut open, html! { <hr /> }),
            // Not enabled.
            Event::FootnoteReference(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                add_text(&mut open, &text);
            }
            Event::TaskListMarker(_) => {}
        }
    }
    while open.len() > 1 {
        close_last(&mut open);
    }
    open.pop().map(|root| root.children.into_iter().collect()).unwrap_or_default()
}

fn opened(tag: Tag<'_>, in_head: bool) -> Open {
    match tag {
        Tag::Paragraph | Tag::HtmlBlock => Open::new("p"),
        // The page has headings of its own above these.
        Tag::Heading { level: HeadingLevel::H1 | HeadingLevel::H2, .. } => Open::new("h3"),
        Tag::Heading { level: HeadingLevel::H3, .. } => Open::new("h4"),
        Tag::Heading { .. } => Open::new("h5"),
        Tag::BlockQuote(_) => Open::new("blockquote"),
        Tag::CodeBlock(kind) => {
            let language = match kind {
                CodeBlockKind::Fenced(info) => info.split_whitespace().next().unwrap_or_default().to_lowercase(),
                CodeBlockKind::Indented => String::new(),
            };
            Open { code: Some((language, String::new())), ..Open::new("pre") }
        }
        Tag::List(None) => Open::new("ul"),
        Tag::List(Some(first)) => Open::new("ol").with("start", first.to_string()),
        Tag::Item => Open::new("li"),
        Tag::Table(_) => Open::new("table"),
        Tag::TableHead | Tag::TableRow => Open::new("tr"),
        Tag::TableCell => Open::new(if in_head { "th" } else { "td" }),
        Tag::Emphasis => Open::new("em"),
        Tag::Strong => Open::new("strong"),
        Tag::Strikethrough => Open::new("del"),
        Tag::Link { dest_url, .. } => link(&dest_url),
        Tag::Image { .. } => Open::new("span").with("class", "md-image").with("title", m::IMAGE_NOT_LOADED),
        _ => Open::new("span"),
    }
}

/// A link that can be followed, or the bare text of one that must not be.
fn link(url: &str) -> Open {
    let lower = url.trim().to_ascii_lowercase();
    if SCHEMES.iter().any(|scheme| lower.starts_with(scheme)) {
        let open = Open::new("a").with("href", url.trim().to_owned()).with("title", url.trim().to_owned());
        open.with("target", "_blank").with("rel", "noopener noreferrer nofollow")
    } else {
        Open::new("span")
    }
}

fn close_last(open: &mut Vec<Open>) {
    if let Some(last) = open.pop() {
        add(open, last.close());
    }
}

fn add(open: &mut [Open], child: Html) {
    if let Some(last) = open.last_mut() {
        last.children.push(child);
    }
}

fn add_text(open: &mut [Open], text: &str) {
    match open.last_mut() {
        Some(Open { code: Some((_, code)), .. }) => code.push_str(text),
        Some(last) => last.children.push(Html::from(text.to_owned())),
        None => {}
    }
}

fn code_block(language: &str, code: &str) -> Html {
    let spans = highlight::spans(language, code).into_iter().map(|(kind, text)| match kind.class() {
        Some(class) => html! { <span {class}>{ text.to_owned() }</span> },
        None => Html::from(text.to_owned()),
    });
    html! {
        // Focusable, so that the keyboard can scroll it.
        <pre class="code" tabindex="0" data-language={language.to_owned()}><code>{ for spans }</code></pre>
    }
}
