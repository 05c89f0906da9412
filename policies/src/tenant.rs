//! What tenants have of their own: files of rules and policies that hold for their requests alone.

use crate::load::Reading;
use std::sync::Arc;
use types::doc::{self, Node, Reader, SourceFile};

/// The files that hold rules and policies of one tenant.
#[derive(Clone, Debug)]
pub struct TenantFiles {
    /// The identifier of the tenant.
    pub tenant: Arc<str>,
    /// Rules (`*.yaml`: `version` and `rules`) and policies (`*.rhai`).
    pub files: Vec<SourceFile>,
}

impl TenantFiles {
    /// Those that hold rules, by name.
    pub(crate) fn rules(&self) -> Vec<&SourceFile> {
        self.named(|is_script| !is_script)
    }

    /// Those that are policies, by name.
    pub(crate) fn scripts(&self) -> Vec<&SourceFile> {
        self.named(|is_script| is_script)
    }

    fn named(&self, wanted: impl Fn(bool) -> bool) -> Vec<&SourceFile> {
        let mut files: Vec<_> = self.files.iter().filter(|f| wanted(f.path.ends_with(".rhai"))).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }
}

impl Reading<'_> {
    /// Reads the rules of a tenant.
    pub(crate) fn rules_of(&mut self, tenant: &TenantFiles) {
        self.of_tenant(&tenant.tenant, |reading| {
            for file in tenant.rules() {
                let mut r = Reader::new(file, "PL");
                match doc::parse(file, "PL") {
                    Ok(root) => {
                        if let Some(rules) = section(&mut r, &root) {
                            reading.rules(&mut r, rules);
                        }
                    }
                    Err(d) => r.problems.push(*d),
                }
                reading.problems.extend(r.problems);
            }
        });
    }

    /// Reads the policies of a tenant.
    pub(crate) fn scripts_of(&mut self, tenant: &TenantFiles) {
        self.of_tenant(&tenant.tenant, |reading| reading.scripts(tenant.scripts()));
    }
}

/// `version` and `rules`: what rules name is the same for all tenants, and stands in the rules file.
fn section<'a>(r: &mut Reader<'_>, root: &'a Node) -> Option<&'a Node> {
    let mut f = r.fields(root, "")?;
    if let Some(n) = f.require(r, "version") {
        r.integer(n, "version", 1, 1);
    }
    let rules = f.take("rules");
    f.finish(r);
    rules
}
