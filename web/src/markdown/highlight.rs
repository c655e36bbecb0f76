//! Colours for code: words, strings, comments and numbers of the languages that models write most.
//!
//! Not a parser: one pass over the text, the same for all languages but for their comments and keywords. A whole grammar
//! library is larger than the rest of the page.

/// What a piece of code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Keyword,
    Text,
    Comment,
    Number,
}

impl Kind {
    pub(super) const fn class(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Keyword => Some("hl-keyword"),
            Self::Text => Some("hl-text"),
            Self::Comment => Some("hl-comment"),
            Self::Number => Some("hl-number"),
        }
    }
}

struct Language {
    names: &'static [&'static str],
    line_comments: &'static [&'static str],
    block_comment: Option<(&'static str, &'static str)>,
    quotes: &'static str,
    keywords: &'static str,
}

const C_COMMENT: Option<(&str, &str)> = Some(("/*", "*/"));

const LANGUAGES: &[Language] = &[
    Language {
        names: &["rust", "rs"],
        line_comments: &["//"],
        block_comment: C_COMMENT,
        quotes: "\"",
        keywords: "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match \
            mod move mut pub ref return self Self static struct super trait true type unsafe use where while",
    },
    Language {
        names: &["js", "javascript", "jsx", "mjs", "ts", "typescript", "tsx"],
        line_comments: &["//"],
        block_comment: C_COMMENT,
        quotes: "\"'`",
        keywords: "abstract as async await break case catch class const continue default delete do else enum export \
            extends false finally for from function if implements import in instanceof interface let new null of private \
            public readonly return static super switch this throw true try type typeof undefined var void while yield",
    },
    Language {
        names: &["py", "python", "python3"],
        line_comments: &["#"],
        block_comment: None,
        quotes: "\"'",
        keywords: "and as assert async await break class continue def del elif else except False finally for from global \
            if import in is lambda None nonlocal not or pass raise return self True try while with yield",
    },
    Language {
        names: &["c", "h", "cpp", "c++", "cc", "java", "kotlin", "kt", "cs", "csharp", "swift", "go", "golang", "wgsl"],
        line_comments: &["//"],
        block_comment: C_COMMENT,
        quotes: "\"'`",
        keywords: "abstract auto bool boolean break byte case catch chan char class const continue default defer delete do \
            double else enum export extends extern false final float fn for fun func go goto if implements import in \
            include inline int interface let long map namespace new nil null override package private protected public \
            range return select short signed sizeof static struct super switch template this throw throws true try \
            typedef union unsigned using val var virtual void volatile while",
    },
    Language {
        names: &["sh", "bash", "shell", "zsh", "console"],
        line_comments: &["#"],
        block_comment: None,
        quotes: "\"'",
        keywords: "case do done elif else esac export fi for function if in local return set then unset while",
    },
    Language {
        names: &["sql"],
        line_comments: &["--"],
        block_comment: C_COMMENT,
        quotes: "'",
        keywords: "and as asc by create delete desc distinct drop from group having in index insert into is join key left \
            limit not null on or order primary right select set table union update values where AND AS ASC BY CREATE \
            DELETE DESC DISTINCT DROP FROM GROUP HAVING IN INDEX INSERT INTO IS JOIN KEY LEFT LIMIT NOT NULL ON OR ORDER \
            PRIMARY RIGHT SELECT SET TABLE UNION UPDATE VALUES WHERE",
    },
    Language {
        names: &["json", "toml", "yaml", "yml"],
        line_comments: &["#"],
        block_comment: None,
        quotes: "\"'",
        keywords: "false null true",
    },
    Language { names: &["css", "scss"], line_comments: &[], block_comment: C_COMMENT, quotes: "\"'", keywords: "" },
    Language {
        names: &["html", "xml", "svg"],
        line_comments: &[],
        block_comment: Some(("<!--", "-->")),
        quotes: "\"'",
        keywords: "",
    },
];

/// The pieces of `code` in order; joined they are the code.
pub(super) fn spans<'a>(language: &str, code: &'a str) -> Vec<(Kind, &'a str)> {
    let Some(language) = LANGUAGES.iter().find(|known| known.names.contains(&language)) else {
        return vec![(Kind::Plain, code)];
    };
    let mut spans: Vec<(Kind, &str)> = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while at < code.len() {
        let (kind, length) = language.next(&code[at..]);
        if kind != Kind::Plain {
            if plain < at {
                spans.push((Kind::Plain, &code[plain..at]));
            }
            spans.push((kind, &code[at..at + length]));
            plain = at + length;
        }
        at += length;
    }
    if plain < code.len() {
        spans.push((Kind::Plain, &code[plain..]));
    }
    spans
}

impl Language {
    /// What stands at the beginning of `rest`, which is not empty, and how many bytes of it; never none.
    fn next(&self, rest: &str) -> (Kind, usize) {
        if self.line_comments.iter().any(|mark| rest.starts_with(mark)) {
            return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
        }
        if let Some((open, close)) = self.block_comment.filter(|(open, _)| rest.starts_with(open)) {
            let end = rest[open.len()..].find(close).map(|at| open.len() + at + close.len());
            return (Kind::Comment, end.unwrap_or(rest.len()));
        }
        let first = rest.chars().next().unwrap_or_default();
        if self.quotes.contains(first) {
            return (Kind::Text, quoted(rest, first));
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if first.is_ascii_digit() {
            return (Kind::Number, word);
        }
        if word == 0 {
            return (Kind::Plain, first.len_utf8());
        }
        let keyword = self.keywords.split_whitespace().any(|keyword| keyword == &rest[..word]);
        (if keyword { Kind::Keyword } else { Kind::Plain }, word)
    }
}

/// Bytes of a quoted text up to its closing quote or the end of the line; a backslash hides what follows it.
fn quoted(rest: &str, quote: char) -> usize {
    let mut hidden = true; // the opening quote
    for (at, c) in rest.char_indices() {
        match c {
            '\n' if quote != '`' => return at,
            _ if hidden => hidden = false,
            '\\' => hidden = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_told_apart() {
        let code = "let a = 0x1f; // \"no\"\nlet_b(\"x\\\"y\")";
        assert_eq!(
            spans("rust", code),
            [
                (Kind::Keyword, "let"),
                (Kind::Plain, " a = "),
                (Kind::Number, "0x1f"),
                (Kind::Plain, "; "),
                (Kind::Comment, "// \"no\""),
                (Kind::Plain, "\nlet_b("),
                (Kind::Text, "\"x\\\"y\""),
                (Kind::Plain, ")"),
            ]
        );
    }

    #[test]
    fn joined_they_are_the_code_whatever_it_is() {
        for code in ["", "'", "\"\\", "/* ü", "/*/", "`a\nb`c", "# ünï\n'ö\n", "<!-- \u{1F600}", "\\\"", "0\u{301}"]
        {
            for language in LANGUAGES.iter().flat_map(|l| l.names).chain(&["unknown"]) {
                let joined: String = spans(language, code).into_iter().map(|(_, text)| text).collect();
                assert_eq!(joined, code, "{language}");
            }
        }
    }
}
