"""Sources, spans and diagnostics: what every stage needs to speak to the user. Imports nothing of ours."""
