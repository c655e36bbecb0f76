//! From a conversation to the text that a model was trained on: its Jinja chat template.
//!
//! Templates come with models, so they are as hostile as any file: source, steps, recursion and output are
//! bounded. (Strings inside of a template are not: the engine has no such limit.) The dialect is that of
//! `apply_chat_template` of Hugging Face transformers: `trim_blocks`, `lstrip_blocks`, methods of Python's
//! strings, lists and dictionaries, `tojson`, `raise_exception`. `strftime_now` is not defined, because a prompt
//! that depends on a clock cannot be replayed; templates test for it and have a date of their own.

use std::fmt;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Largest template in bytes (the largest published ones have about 20 KB).
pub const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Largest rendered prompt in bytes.
pub const MAX_PROMPT_BYTES: usize = 4 << 20;
/// Most steps of the template engine for one prompt; published templates take some tens a message.
pub const MAX_STEPS: u64 = 1_000_000;
/// Deepest nesting of macros. A tab's stack holds 1 MiB.
const MAX_RECURSION: usize = 50;

const NAME: &str = "chat";

/// Why there is no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The model has no template: it completes text and does not chat.
    #[error("the model has no chat template")]
    NoTemplate,
    /// The template is larger than [`MAX_TEMPLATE_BYTES`].
    #[error("chat template of {0} bytes is over the limit of {MAX_TEMPLATE_BYTES}")]
    TooLarge(usize),
    /// The template is not Jinja.
    #[error("chat template does not parse: {0}")]
    Syntax(String),
    /// The template ran for more than [`MAX_STEPS`].
    #[error("chat template took more than {MAX_STEPS} steps")]
    TooManySteps,
    /// The prompt would be larger than [`MAX_PROMPT_BYTES`].
    #[error("prompt is over the limit of {MAX_PROMPT_BYTES} bytes")]
    PromptTooLarge,
    /// The template refuses this conversation, in its own words.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template failed in another way.
    #[error("chat template failed: {0}")]
    Failed(String),
}

/// A parsed chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Parses the template of a manifest.
    ///
    /// # Errors
    /// [`ChatError::NoTemplate`], [`ChatError::TooLarge`] or [`ChatError::Syntax`].
    pub fn new(source: Option<&str>) -> Result<Self, ChatError> {
        let source = source.ok_or(ChatError::NoTemplate)?;
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(ChatError::TooLarge(source.len()));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| ChatError::Failed(e.to_string()))?);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|e| ChatError::Syntax(e.to_string()))?;
        Ok(Self { environment })
    }

    /// The prompt for `messages`, oldest first, each with at least `role` and `content`.
    ///
    /// `add_generation_prompt` appends what makes the model answer as the assistant.
    ///
    /// # Errors
    /// [`ChatError::TooManySteps`], [`ChatError::PromptTooLarge`], [`ChatError::Refused`] or [`ChatError::Failed`].
    pub fn render<M: Serialize>(&self, messages: &[M], add_generation_prompt: bool) -> Result<String, ChatError> {
        let template = self.environment.get_template(NAME).map_err(|e| ChatError::Failed(e.to_string()))?;
        let mut prompt = Bounded(Vec::new());
        template
            .render_captured_to(
                context! { messages => Value::from(Serde(messages)), add_generation_prompt },
                &mut prompt,
            )
            .map_err(|e| chat_error(&e))?;
        String::from_utf8(prompt.0).map_err(|e| ChatError::Failed(e.to_string()))
    }
}

/// `template` with the texts of the special tokens that it refers to, as one self-contained template.
///
/// A manifest holds one template and no token texts, so the importer writes them down where they are used.
#[must_use]
pub fn with_special_tokens(template: &str, bos: Option<&str>, eos: Option<&str>) -> String {
    let declarations: String = [("bos_token", bos), ("eos_token", eos)]
        .into_iter()
        .filter(|(name, _)| template.contains(name))
        .filter_map(|(name, text)| {
            let text = serde_json::to_string(text?).ok()?;
            Some(format!("{{% set {name} = {text} %}}\n"))
        })
        .collect();
    // The line break after each block is dropped by `trim_blocks`.
    declarations + template
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
}

/// What a template said in `raise_exception`.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn chat_error(error: &Error) -> ChatError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(Refusal(message)) = e.downcast_ref() {
            return ChatError::Refused(message.clone());
        }
        match e.downcast_ref::<Error>().map(Error::kind) {
            Some(ErrorKind::OutOfFuel) => return ChatError::TooManySteps,
            Some(ErrorKind::WriteFailure) => return ChatError::PromptTooLarge,
            _ => cause = e.source(),
        }
    }
    ChatError::Failed(error.to_string())
}

/// Collects output up to [`MAX_PROMPT_BYTES`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PROMPT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the engine passes arguments by value")]
/// `tojson` as transformers defines it: Python's `json.dumps(…, ensure_ascii=False)`, not escaped for HTML.
fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    options.assert_all_used()?;
    let mut json = Bounded(Vec::new());
    let written = match indent {
        // Python's output is never deeper indented than this in practice; the width is a peer's number.
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            value.serialize(&mut Serializer::with_formatter(&mut json, PrettyFormatter::with_indent(spaces.as_bytes())))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut json, PythonFormatter)),
    };
    let failed = |e: String| Error::new(ErrorKind::InvalidOperation, e);
    written.map_err(|e| failed(e.to_string()))?;
    Ok(Value::from_safe_string(String::from_utf8(json.0).map_err(|e| failed(e.to_string()))?))
}

/// Python's separators: a space after each comma and colon.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn render(source: &str, content: &str) -> Result<String, ChatError> {
        let message = BTreeMap::from([("role", "user"), ("content", content)]);
        ChatTemplate::new(Some(source))?.render(&[message], true)
    }

    #[test]
    fn a_model_without_a_template_says_so() {
        assert_eq!(ChatTemplate::new(None).err(), Some(ChatError::NoTemplate));
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_work() {
        let source = "{% for m in messages %}\n  {% if loop.first %}\n[{{ m['content'].strip().upper() }}]\n  {% endif %}\n{% endfor %}";
        assert_eq!(render(source, " hi ").as_deref(), Ok("[HI]\n"));
    }

    #[test]
    fn special_tokens_are_declared_where_they_are_used() {
        let source = with_special_tokens("\n{{ bos_token }}x", Some("<s>\""), Some("</s>"));
        assert!(!source.contains("eos_token"));
        assert_eq!(render(&source, "").as_deref(), Ok("\n<s>\"x"));
        assert_eq!(with_special_tokens("plain", Some("<s>"), None), "plain");
    }

    #[test]
    fn json_is_that_of_python() {
        let source = "{{ {'a': [1, 'ü<'], 'b': none} | tojson }}";
        assert_eq!(render(source, "").as_deref(), Ok(r#"{"a": [1, "ü<"], "b": null}"#));
        assert_eq!(render("{{ [1] | tojson(indent=2) }}", "").as_deref(), Ok("[\n  1\n]"));
    }

    #[test]
    fn a_template_may_refuse() {
        let refused = render("{{ raise_exception('roles must alternate') }}", "");
        assert_eq!(refused, Err(ChatError::Refused("roles must alternate".to_owned())));
    }

    #[test]
    fn no_clock() {
        assert_eq!(render("{{ strftime_now is defined }}", "").as_deref(), Ok("False"));
    }

    #[test]
    fn hostile_templates_end_in_typed_errors() {
        let nested = "{% for a in range(9999) %}".repeat(3) + "x" + &"{% endfor %}".repeat(3);
        assert_eq!(render(&nested, ""), Err(ChatError::TooManySteps));
        let large = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
        assert_eq!(render(large, ""), Err(ChatError::PromptTooLarge));
        let deep = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        assert!(matches!(render(deep, ""), Err(ChatError::Failed(_))));
        assert!(matches!(render("{% include 'other' %}", ""), Err(ChatError::Failed(_))));
        assert!(matches!(render("{% if %}", ""), Err(ChatError::Syntax(_))));
        assert!(matches!(render("{{ missing.field.field }}", ""), Err(ChatError::Failed(_))));
        assert_eq!(render(&"x".repeat(MAX_TEMPLATE_BYTES + 1), ""), Err(ChatError::TooLarge(MAX_TEMPLATE_BYTES + 1)));
    }
}
