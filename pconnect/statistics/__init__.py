"""What servers have done, and how they are: their documents, and tables of them."""
