"""Rules in CEL to eligibility tables, and credentials to tenants. Pure: text in, verdicts out. The one door to CEL."""
