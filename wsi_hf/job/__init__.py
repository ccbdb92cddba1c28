"""The whole job: a cohort and a few options in, a trained, judged and Hub-ready folder out."""
