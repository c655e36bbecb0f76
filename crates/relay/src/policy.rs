//! What the page may do, as its Content Security Policy.
//!
//! Scripts, styles and images come from the page's own origin alone and no string becomes a script, so an answer of a
//! hostile model can neither run anything nor load anything. Connections go to whichever relay and gateway the user, the
//! relay or a signed advert names: any over TLS, and this machine's without.

use axum::http::HeaderValue;

/// The policy. `index.html` repeats it for hosts that send no headers, but for what only a header can say.
pub(crate) const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; \
     font-src 'self'; manifest-src 'self'; connect-src 'self' https: wss: http://127.0.0.1:* http://localhost:* \
     ws://127.0.0.1:* ws://localhost:*; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
     trusted-types default; frame-ancestors 'none'",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_repeats_the_policy() {
        let page = include_str!("../../../index.html");
        let policy = CONTENT_SECURITY_POLICY;
        let policy = policy.to_str().expect("ASCII").strip_suffix("; frame-ancestors 'none'").expect("at the end");
        assert!(page.contains(&format!("content=\"{policy}\"")), "{policy}");
        assert!(!page.contains("style=") && !page.contains(" onclick="), "nothing inline");
    }

    #[test]
    fn nothing_unsafe_is_allowed() {
        let policy = CONTENT_SECURITY_POLICY;
        let policy = policy.to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'"));
        for unsafe_source in ["'unsafe-inline'", "'unsafe-eval'", "data:", "blob:", " *;", " * "] {
            assert!(!policy.contains(unsafe_source), "{unsafe_source}");
        }
    }
}
