/**
 * The Supabase CLI, as npm names it: the version that supabase/config.toml is written for, that the tests and checks
 * run, and that CI and the docs install (a test sees to that).
 */
export const CLI = "supabase@3.1.0";
