// What stands between the parts of one long text to or from PostgreSQL: control characters, which no JSON text holds. Both
// sides write and read such a text faster than so many rows or the elements of an array.

/** chr(30) in SQL. */
export const endOfLine = "\u001e";
/** chr(31) in SQL. */
export const endOfField = "\u001f";
