"""What `segbench doctor` looks at, and what it says; nothing else imports it."""
