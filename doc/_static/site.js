// A page that was opened as a file may not read others, which excerpts in the results of a search are from.
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";
