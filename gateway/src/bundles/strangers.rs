//! Rules for tenants that there are not.

use crate::app::App;
use crate::config::Texts;
use crate::config::sources::of_tenant;
use engine::Bundle;
use types::Diagnostic;
use types::diagnostic::suggestion;
use types::doc::{SourceFile, Span};

impl App {
    /// A warning for each tenant that there is not, and for which a bundle has rules: they hold for nobody. No error, for a
    /// tenant may be made after its rules.
    pub(super) fn strange_tenants(&self, bundle: &Bundle, files: &Texts) -> Vec<Diagnostic> {
        let known = self.plane.directory();
        let tenants = bundle.policies().tenants().into_iter();
        let strange = tenants.filter(|t| known.tenant(t).is_none()).map(|tenant| {
            let folder = format!("{}/", of_tenant(tenant));
            let path = files.keys().find(|path| path.starts_with(&folder)).unwrap_or(&folder);
            let at = Span { line: 1, column: 1, ..Span::default() };
            let text = format!(
                "there is no tenant `{tenant}`; its rules hold for nobody until one of that id is made"
            );
            let names = known.tenants();
            Diagnostic::warning("TS014", &SourceFile::new(path.as_str(), ""), at, text)
                .hint(suggestion(tenant, names.iter().map(String::as_str)))
        });
        strange.collect()
    }
}
