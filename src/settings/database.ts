// The choice to have no database: nothing is registered, kept or captured then, and all else works.

/** The value of DATABASE_URL that says so. */
export const NO_DATABASE = "none";
