"""What people are told and how it reaches them: inbox, e-mail, calendar files and private calendar feeds."""
