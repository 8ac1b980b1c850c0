//! Query options of lists, watches and writes, and their rules.

use kube_types::status::{FieldError, Status};

use crate::http::query::Query;

/// How a resource version is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Unset,
    Exact,
    NotOlderThan,
}

/// Options of a list or watch.
#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    /// None: unset. Some(0): anything will do.
    pub(crate) revision: Option<i64>,
    pub(crate) matching: Match,
    pub(crate) limit: usize,
    pub(crate) token: Option<String>,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) bookmarks: bool,
    pub(crate) timeout_s: Option<u64>,
}

impl ListOptions {
    /// Reads and checks them; `watch` says which rules hold.
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let number = |name: &str| {
            query.text(name).map(|text| text.parse::<u64>().map_err(|_| not_a_number(name, text)))
        };
        let options = Self {
            revision: revision(query)?,
            matching: matching(query)?,
            limit: number("limit").transpose()?.unwrap_or(0) as usize,
            token: query.text("continue").map(str::to_owned),
            send_initial_events: query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents")),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout_s: number("timeoutSeconds").transpose()?,
        };
        let errors = if watch { options.watch_errors() } else { options.list_errors(query) };
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors))
        }
    }

    fn list_errors(&self, query: &Query) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.send_initial_events.is_some() {
            errors
                .push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        if self.matching == Match::Unset {
            return errors;
        }
        let field = "resourceVersionMatch";
        if self.revision.is_none() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if self.token.is_some() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if self.matching == Match::Exact && query.get("resourceVersion") == Some("0") {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        errors
    }

    fn watch_errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let field = "resourceVersionMatch";
        match (self.send_initial_events, self.matching) {
            (None, Match::Unset) | (Some(_), Match::NotOlderThan) => {}
            (None, _) => {
                errors.push(FieldError::forbidden(
                    field,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (Some(_), Match::Unset) => {
                errors.push(FieldError::forbidden(
                    field,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            (Some(_), Match::Exact) => {
                errors.push(FieldError::not_supported(field, "Exact", &["NotOlderThan"]))
            }
        }
        errors
    }
}

fn not_a_number(name: &str, text: &str) -> Status {
    Status::bad_request(format!(
        "invalid value for {name}: strconv.ParseInt: parsing {text:?}: invalid syntax"
    ))
}

fn revision(query: &Query) -> Result<Option<i64>, Status> {
    let Some(text) = query.text("resourceVersion") else { return Ok(None) };
    match text.parse::<u64>().ok().and_then(|n| i64::try_from(n).ok()) {
        Some(revision) => Ok(Some(revision)),
        None => {
            let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
            let error = FieldError::invalid("resourceVersion", text, why);
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
        }
    }
}

fn matching(query: &Query) -> Result<Match, Status> {
    match query.text("resourceVersionMatch") {
        None => Ok(Match::Unset),
        Some("Exact") => Ok(Match::Exact),
        Some("NotOlderThan") => Ok(Match::NotOlderThan),
        Some(other) => {
            let error =
                FieldError::not_supported("resourceVersionMatch", other, &["Exact", "NotOlderThan", ""]);
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
        }
    }
}

/// Whether a `dryRun` list means a dry run.
pub(crate) fn dry_run<'a>(kind: &str, values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut dry = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value != "All" {
            let error = FieldError::not_supported("dryRun", value, &["All"]);
            return Err(Status::invalid("meta.k8s.io", kind, "", &[error]));
        }
        dry = true;
    }
    Ok(dry)
}
