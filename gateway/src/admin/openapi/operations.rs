//! Names of operations for generated clients, and the command that does the same.

/// Name, command, method and path. What stands in capitals in a command is for its caller to say.
const OPERATIONS: &[(&str, &str, &str, &str)] = &[
    ("openapi", "openapi", "GET", "/openapi.json"),
    ("whoami", "whoami", "GET", "/whoami"),
    ("reload", "reload", "POST", "/reload"),
    ("tenant_list", "tenant list", "GET", "/tenants"),
    ("tenant_create", "tenant create ID", "POST", "/tenants"),
    ("tenant_show", "tenant show ID", "GET", "/tenants/{tenant}"),
    ("tenant_change", "tenant change ID", "PATCH", "/tenants/{tenant}"),
    ("tenant_remove", "tenant remove ID", "DELETE", "/tenants/{tenant}"),
    ("key_list", "key list", "GET", "/keys"),
    ("key_create", "key create", "POST", "/keys"),
    ("key_show", "key show ID", "GET", "/keys/{key}"),
    ("key_change", "key change ID", "PATCH", "/keys/{key}"),
    ("key_rotate", "key rotate ID", "POST", "/keys/{key}/rotate"),
    ("key_revoke", "key revoke ID", "DELETE", "/keys/{key}"),
    ("provider_list", "provider list", "GET", "/providers"),
    ("models", "models", "GET", "/models"),
    ("provider_key_list", "provider-key list", "GET", "/provider-keys"),
    ("provider_key_add", "provider-key add PROVIDER", "POST", "/provider-keys"),
    ("provider_key_change", "provider-key change ID", "PATCH", "/provider-keys/{id}"),
    ("provider_key_remove", "provider-key remove ID", "DELETE", "/provider-keys/{id}"),
    ("budget_list", "budget list", "GET", "/budgets"),
    ("usage", "usage", "GET", "/usage"),
    ("statistics_list", "statistics list", "GET", "/statistics"),
    ("statistics_rollback", "statistics rollback", "POST", "/statistics/rollback"),
    ("approval_list", "approval list", "GET", "/approvals"),
    ("approval_answer", "approval approve ID", "POST", "/approvals/{approval}"),
    ("pool_list", "pool list", "GET", "/pools"),
    ("pool_show", "pool show NAME", "GET", "/pools/{pool}"),
    ("pool_put", "pool put NAME", "PUT", "/pools/{pool}"),
    ("pool_remove", "pool remove NAME", "DELETE", "/pools/{pool}"),
    ("policy_list", "policy list", "GET", "/policies"),
    ("policy_show", "policy show ID", "GET", "/policies/{policy}"),
    ("policy_put", "policy put ID FILE", "PUT", "/policies/{policy}"),
    ("policy_remove", "policy remove ID", "DELETE", "/policies/{policy}"),
    ("bundle_in_force", "bundle show", "GET", "/bundle"),
    ("bundle_list", "bundle list", "GET", "/bundles"),
    ("bundle_upload", "bundle upload FOLDER", "POST", "/bundles"),
    ("bundle_rollback", "bundle rollback", "POST", "/bundles/rollback"),
    ("bundle_show", "bundle show HASH", "GET", "/bundles/{hash}"),
    ("bundle_activate", "bundle activate HASH", "POST", "/bundles/{hash}/activate"),
    ("bundle_shadow", "bundle shadow HASH", "POST", "/bundles/{hash}/shadow"),
    ("bundle_shadow_report", "bundle shadow HASH --report", "GET", "/bundles/{hash}/shadow"),
    ("bundle_shadow_end", "bundle shadow HASH --end", "DELETE", "/bundles/{hash}/shadow"),
    ("bundle_diff", "bundle diff HASH", "GET", "/bundles/{hash}/diff"),
    ("audit_list", "audit list", "GET", "/audit"),
    ("audit_rotate_key", "audit rotate-key", "POST", "/audit/key"),
];

/// Name and command of an operation; empty = it has none, which a test refuses.
pub(super) fn names(method: &str, path: &str) -> (&'static str, &'static str) {
    let found = OPERATIONS.iter().find(|(_, _, m, p)| (*m, *p) == (method, path));
    found.map_or(("", ""), |(name, command, ..)| (name, command))
}

/// What an operation belongs with.
pub(super) fn tag(path: &'static str) -> &'static str {
    match path.trim_start_matches('/').split('/').next() {
        Some("bundle" | "reload") => "bundles",
        Some("whoami" | "openapi.json") | None => "server",
        Some(first) => first,
    }
}
