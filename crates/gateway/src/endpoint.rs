//! What is served at a path, and what the API's document says of it: one table for both, so that they cannot differ.

use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::gateway::Gateway;

/// A path and its method.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) method: Method,
    pub(crate) route: MethodRouter<Gateway>,
}

/// How a path is asked.
pub(crate) enum Method {
    Get,
    /// With a body of this schema.
    Post(fn(&mut SchemaGenerator) -> Schema),
}

impl Endpoint {
    pub(crate) fn get<T: 'static>(
        path: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Gateway>,
    ) -> Self {
        Self { path, summary, method: Method::Get, route: get(handler) }
    }

    /// `B` is what the body is read as.
    pub(crate) fn post<B: JsonSchema, T: 'static>(
        path: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Gateway>,
    ) -> Self {
        Self { path, summary, method: Method::Post(SchemaGenerator::subschema_for::<B>), route: post(handler) }
    }
}
