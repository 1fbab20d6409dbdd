"""Files and source trees on their way between client and servers."""
